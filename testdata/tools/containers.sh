#!/usr/bin/env bash
# Puts clients that Debian packages, and the programs that they run, into the directory
# bin under the given directory. Where there is no apt-get, it takes the installed ones.
# Otherwise it unpacks Debian's packages with the libraries that this system lacks, which
# needs neither root nor the system's package lists.
set -euo pipefail
tools=$1
packages=(skopeo podman buildah containerd runc docker.io)
commands=(skopeo podman buildah conmon containerd containerd-shim-runc-v2 ctr runc dockerd docker)
mkdir -p "$tools/bin"
for c in "${commands[@]}"; do rm -f "$tools/bin/$c"; done # otherwise a second run would find them
if ! command -v apt-get >/dev/null; then
	for c in "${commands[@]}"; do
		found=$(PATH=$PATH:/usr/sbin:/usr/local/sbin:/usr/libexec/podman command -v "$c" || true)
		[[ -n $found ]] || { echo "found neither $c nor apt-get: install ${packages[*]}" >&2; exit 1; }
		ln -s "$found" "$tools/bin/$c"
	done
	exit
fi
rm -rf "$tools/containers"
mkdir -p "$tools"/containers/{lists,cache/archives}/partial
cd "$tools/containers"
apt=(apt-get -qq -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o Debug::NoLocking=1
	-o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3)
"${apt[@]}" update
# The second command downloads the packages that are installed already.
"${apt[@]}" install --download-only --no-install-recommends -y "${packages[@]}" >/dev/null
"${apt[@]}" install --download-only --no-install-recommends --reinstall -y "${packages[@]}" conmon >/dev/null
for package in cache/archives/*.deb; do dpkg-deb -x "$package" .; done
rm -rf lists cache usr/share
ln -s "usr/lib/$(uname -m)-linux-gnu" libraries
for c in "${commands[@]}"; do
	for dir in usr/bin usr/sbin usr/libexec/podman usr/lib/podman; do
		[[ -x $dir/$c ]] && found=$PWD/$dir/$c
	done
	printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$PWD/libraries" "$found" >"../bin/$c"
	chmod +x "../bin/$c"
done
for c in skopeo podman buildah containerd runc dockerd docker; do "../bin/$c" --version; done >/dev/null
