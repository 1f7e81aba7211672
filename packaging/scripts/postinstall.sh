#!/bin/sh
# deb: configure [old version]; rpm: 1 for an installation, 2 for an upgrade.
set -e

case "$1" in
configure) upgrade=$2 ;;
1) upgrade= ;;
2) upgrade=2 ;;
*) exit 0 ;;
esac

if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers /usr/lib/sysusers.d/mcp-sandbox.conf
elif ! getent passwd mcp-sandbox >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/mcp-sandbox --no-create-home --shell /usr/sbin/nologin mcp-sandbox
fi
install -d -o mcp-sandbox -g mcp-sandbox -m 0750 /etc/mcp-sandbox
install -d -o mcp-sandbox -g mcp-sandbox -m 0700 /var/lib/mcp-sandbox

# A parser older than the profile's ABI (Debian 12's) refuses it, and kernels of that
# time restrict nothing that it would allow.
if [ -e /etc/apparmor.d/mcp-sandbox ] && [ -e /etc/apparmor.d/abi/4.0 ] && [ -e /sys/kernel/security/apparmor/profiles ] && command -v apparmor_parser >/dev/null; then
	apparmor_parser -r -W /etc/apparmor.d/mcp-sandbox || echo "mcp-sandbox: the AppArmor profile was not loaded" >&2
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	if [ -n "$upgrade" ]; then
		systemctl try-restart mcp-sandbox.service || true
	fi
fi
if [ -z "$upgrade" ]; then
	cat <<'END'
mcp-sandbox: to serve a network, write lines NAME:TOKEN to /etc/mcp-sandbox/tokens
(mode 0600, owner mcp-sandbox), then: systemctl enable --now mcp-sandbox.socket mcp-sandbox.service
END
fi
