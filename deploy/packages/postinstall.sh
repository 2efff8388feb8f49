#!/bin/sh
# Creates the user. Starts nothing at the first installation, because the configuration
# names no bucket yet; restarts a running berth at an upgrade.
set -e
if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers berth.conf
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart berth.service
fi
