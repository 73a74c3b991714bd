#!/usr/bin/env bash
# Makes the image raftsman-test:busybox from this machine's static busybox, without any registry. Sourced or run:
#   scripts/lib/test_image.sh [NAME]     prints the image's name; does nothing if the engine has it already.
# The image holds /bin/busybox, its applets as links and an empty /tmp, nothing else.

make_test_image() {
    local name="${1:-raftsman-test:busybox}" busybox root
    if docker image inspect "$name" >/dev/null 2>&1; then
        echo "$name"
        return 0
    fi
    busybox="$(command -v busybox)" || {
        echo "no busybox on this machine; on Debian: apt-get install busybox-static" >&2
        return 1
    }
    if ldd "$busybox" >/dev/null 2>&1; then
        echo "$busybox needs shared libraries; on Debian: apt-get install busybox-static" >&2
        return 1
    fi
    root="$(mktemp -d)" || return 1
    mkdir -p "$root/bin" "$root/tmp" "$root/etc" &&
        chmod 1777 "$root/tmp" &&
        cp "$busybox" "$root/bin/busybox" &&
        for applet in $("$busybox" --list); do
            [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
        done &&
        echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd" &&
        echo 'nobody:x:65534:65534:nobody:/:/bin/sh' >>"$root/etc/passwd" &&
        tar -C "$root" -c . | docker import --change 'ENV PATH=/bin' --change 'CMD ["sh"]' - "$name" >/dev/null &&
        echo "$name"
    local status=$?
    rm -rf "$root"
    return $status
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    make_test_image "$@"
fi
