#!/bin/sh
# Stops berth at a removal, and not at an upgrade: dpkg calls the latter upgrade, and rpm
# passes the number of versions that remain.
set -e
if [ "$1" = remove ] || [ "$1" = 0 ]; then
	if [ -d /run/systemd/system ]; then
		systemctl disable --now berth.service
	fi
fi
