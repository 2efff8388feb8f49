#!/usr/bin/env bash
# Puts nginx, which stands in for a CDN in the tests, into the directory bin under the
# given directory. It takes the installed nginx, or otherwise unpacks Debian's package,
# which needs neither root nor the system's package lists.
set -euo pipefail
tools=$1
rm -f "$tools/bin/nginx" # otherwise a second run would find this link
found=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx || true)
if [[ -z $found ]]; then
	command -v apt-get >/dev/null || { echo "found neither nginx nor apt-get: install nginx" >&2; exit 1; }
	rm -rf "$tools/nginx"
	mkdir -p "$tools"/nginx/{lists,cache/archives}/partial
	cd "$tools/nginx"
	apt=(apt-get -qq -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o Debug::NoLocking=1
		-o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3)
	"${apt[@]}" update
	"${apt[@]}" download nginx
	dpkg-deb -x nginx_*.deb .
	rm -rf lists cache nginx_*.deb
	found=$PWD/usr/sbin/nginx
fi
[[ $("$found" -V 2>&1) == *--with-http_secure_link_module* ]] || { echo "$found has no secure_link module: install an nginx that has it" >&2; exit 1; }
mkdir -p "$tools/bin"
ln -sf "$found" "$tools/bin/nginx"
