# One image for peers, agents and the gateway.
# Where no registry can be reached: scripts/make_base, then --build-arg BASE=raftsman-base:local.
ARG BASE=python:3.11-slim
FROM ${BASE}
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 GRPC_ENABLE_FORK_SUPPORT=0 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/raftsman
# Dependencies first: they change less often than the code.
COPY requirements.lock ./
RUN python3 -m venv /opt/venv \
 && PIP_CERT=/etc/ssl/certs/ca-certificates.crt /opt/venv/bin/pip install --quiet --no-cache-dir --no-deps -r requirements.lock \
 && PIP_CERT=/etc/ssl/certs/ca-certificates.crt /opt/venv/bin/pip install --quiet --no-cache-dir "setuptools>=77"
COPY pyproject.toml README.md LICENSE ./
COPY raftsman ./raftsman
COPY orchestrator ./orchestrator
COPY agent ./agent
RUN /opt/venv/bin/pip install --quiet --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/venv/bin/python -m compileall -q /opt/venv/lib \
 && mkdir -p /data /tls \
 && chown 10001:10001 /data /tls
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin
# Peers and the gateway need no privilege. Agents are started as root by the compose file: they use the engine's socket.
USER 10001:10001
WORKDIR /data
EXPOSE 7400 7480 8080
ENTRYPOINT ["raftsman"]
CMD ["--help"]
