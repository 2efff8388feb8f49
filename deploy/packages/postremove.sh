#!/bin/sh
# Keeps /var/lib/berth, which may hold the blobs, also when the package is purged.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
