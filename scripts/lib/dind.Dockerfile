# An image that runs a Docker engine in a container, from Debian's packages; see scripts/make_dind_base.
ARG BASE=raftsman-base:local
FROM ${BASE}
# An engine needs no init system here, and no package may start one.
RUN printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d \
 && chmod +x /usr/sbin/policy-rc.d \
 && apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables >/dev/null \
 && rm -rf /var/lib/apt/lists/* /usr/share/doc /usr/share/man
COPY dind_entry.sh /usr/local/bin/dind_entry
RUN chmod 755 /usr/local/bin/dind_entry
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
VOLUME /var/lib/docker
ENTRYPOINT ["dind_entry"]
CMD ["dockerd"]
