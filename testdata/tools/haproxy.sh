#!/usr/bin/env bash
# Puts haproxy, which is a proxy in front of berth in a test, into the directory bin
# under the given directory. It takes the installed haproxy, or otherwise unpacks
# Debian's package with its libraries, which does not need root.
set -euo pipefail
tools=$1
mkdir -p "$tools/bin"
rm -f "$tools/bin/haproxy"
found=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v haproxy || true)
if [[ -n $found ]]; then
	ln -s "$found" "$tools/bin/haproxy"
	exit
fi
command -v apt-get >/dev/null || { echo "found neither haproxy nor apt-get: install haproxy" >&2; exit 1; }
rm -rf "$tools/haproxy"
mkdir -p "$tools"/haproxy/{lists,cache/archives}/partial
cd "$tools/haproxy"
apt=(apt-get -qq -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o Debug::NoLocking=1
	-o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3)
"${apt[@]}" update
# haproxy, and the libraries that a small system may not have.
"${apt[@]}" download haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
for package in *.deb; do dpkg-deb -x "$package" .; done
rm -rf lists cache ./*.deb
cat >../bin/haproxy <<'END'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/../haproxy
LD_LIBRARY_PATH=$here/usr/lib/$(uname -m)-linux-gnu exec "$here/usr/sbin/haproxy" "$@"
END
chmod +x ../bin/haproxy
../bin/haproxy -v >/dev/null
