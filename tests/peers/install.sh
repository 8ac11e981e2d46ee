#!/bin/sh
# The programs that the tests talk to. Installs what is missing where it may (root and apt); else says what to install.
set -u
packages=""
need() { # program, package
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/bin/$1" ] || [ -x "/usr/sbin/$1" ] || packages="$packages $2"
}
need dcmsend dcmtk
need Orthanc orthanc
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || packages="$packages orthanc-dicomweb"
[ -x /usr/bin/redis-server ] || packages="$packages redis-server"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || packages="$packages postgresql"
need strace strace
need java default-jre-headless
[ -e /usr/share/java/pixelmed.jar ] || packages="$packages libpixelmed-java"
[ -e /usr/share/java/js.jar ] || packages="$packages librhino-java"
need chromium chromium
need npm npm
need prometheus prometheus
need promtool prometheus
need podman podman
need runc runc
need fuse-overlayfs fuse-overlayfs
need busybox busybox-static
[ -n "$packages" ] || exit 0

if command -v apt-get >/dev/null 2>&1; then
    run=""
    if [ "$(id -u)" -ne 0 ]; then
        if sudo -n true 2>/dev/null; then run="sudo -n"; else run=no; fi
    fi
    if [ "$run" != no ]; then
        echo "Installing the peers of the tests:$packages"
        $run apt-get update -qq &&
            # The servers are started by the tests, on ports of their own: the packages need not start them.
            $run env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >/dev/null &&
            exit 0
    fi
fi
echo "The tests need programs that are not here. On Debian or Ubuntu, as root:"
echo "    apt-get install --no-install-recommends$packages"
if [ "${CI:-}" = true ]; then exit 1; fi
echo "Tests that need them are skipped now."
