#!/bin/sh
# deb: remove; rpm: 0 for the last version.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac

if [ -d /run/systemd/system ]; then
	systemctl disable --now mcp-sandbox.service mcp-sandbox.socket || true
fi
if [ -e /etc/apparmor.d/mcp-sandbox ] && [ -e /sys/kernel/security/apparmor/profiles ] && command -v apparmor_parser >/dev/null; then
	apparmor_parser -R /etc/apparmor.d/mcp-sandbox || true
fi
