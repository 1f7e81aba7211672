#!/bin/sh
# deb: remove or purge; rpm: 0 for the last version, which keeps tokens and state.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
[ "$1" = purge ] || exit 0

rm -rf /etc/mcp-sandbox
# State and workspaces are people's work: they go only when that is answered with
# yes, and without debconf they stay.
state=false
if [ -e /usr/share/debconf/confmodule ]; then
	. /usr/share/debconf/confmodule
	db_input high mcp-sandbox/purge-state || true
	db_go || true
	db_get mcp-sandbox/purge-state && state=$RET
	db_purge || true
fi
if [ "$state" = true ]; then
	rm -rf /var/lib/mcp-sandbox
	if command -v userdel >/dev/null; then
		userdel mcp-sandbox || true
	fi
elif [ -e /var/lib/mcp-sandbox ]; then
	echo "mcp-sandbox: /var/lib/mcp-sandbox and the user mcp-sandbox are kept" >&2
fi
