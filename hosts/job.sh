#!/bin/bash
# Runs in the guest as root. Each "==" begins a part; FAIL says what is not as it
# should be.
say() { echo "== $*"; }
check() { what=$1; shift; "$@" || echo "FAIL $what"; }
token=3f0c9a5be1d24c7788aa
call() {
  curl -sS -m 120 -H "Authorization: Bearer $token" -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
    -H 'Mcp-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/call' -H "Mcp-Name: $1" http://127.0.0.1:8765/mcp \
    -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"$1\",\"arguments\":$2,\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientInfo\":{\"name\":\"t\",\"version\":\"1\"},\"io.modelcontextprotocol/clientCapabilities\":{}}}}"
  echo
}
as() { su alice -c "cd; $1"; }
has() { grep -q -- "$1" <<<"$2"; }

say kernel "$(uname -r)" "$(uname -v | grep -o 'Debian [^ ]*')", "$(systemctl --version | head -1)"
say install
DEBIAN_FRONTEND=noninteractive dpkg -i /root/mcp-sandbox.deb 2>&1 | tail -5
check "the package makes its user" id mcp-sandbox
check "the package makes its directories" test -d /etc/mcp-sandbox -a -d /var/lib/mcp-sandbox

say doctor
out=$(as 'mcp-sandbox doctor'); rc=$?; echo "$out"
check "doctor" test $rc = 0

say exec
check "exec" as 'time mcp-sandbox exec --min-confinement namespaces -- "id -u; echo ok > f; cat f"'
as 'time sh -c true' 2>&1 | grep real
check "exec behind RestrictSUIDSGID" systemd-run -q -p User=alice -p RestrictSUIDSGID=yes -p NoNewPrivileges=yes -p WorkingDirectory=/var/tmp --pipe --wait \
  mcp-sandbox exec --min-confinement namespaces -- 'echo behind RestrictSUIDSGID'
check "exec at landlock" as 'mcp-sandbox exec --confine landlock -- "echo at landlock" 2>/dev/null'

say several principals at landlock
printf 'ann:%s\nbob:9b1de2f7a6c54e0e99bb\n' $token > /home/alice/tokens; chown alice /home/alice/tokens; chmod 600 /home/alice/tokens
out=$(as 'timeout 20 mcp-sandbox serve --transport http --listen 127.0.0.1:9999 --token-file tokens --confine landlock' 2>&1); echo "$out" | tail -1
case $(uname -r) in [1-5].* | 6.[0-9].* | 6.1[01].*) check "several principals are refused" has 'commands of one can kill' "$out" ;; esac

say unit
printf 'ann:%s\n' $token > /etc/mcp-sandbox/tokens; chown mcp-sandbox /etc/mcp-sandbox/tokens; chmod 600 /etc/mcp-sandbox/tokens
mkdir -p /etc/systemd/system/mcp-sandbox.service.d
{ printf '[Service]\nExecStart=\n'; sed -n 's/^\(ExecStart=.*\)/\1 --limit-memory 100M/p' /usr/lib/systemd/system/mcp-sandbox.service; } > /etc/systemd/system/mcp-sandbox.service.d/limit.conf
systemctl daemon-reload
check "the unit starts" systemctl enable --now mcp-sandbox.socket mcp-sandbox.service
check "the unit is active" systemctl is-active mcp-sandbox.service
out=$(call session_info '{}'); echo "${out:0:900}"
check "the unit's level" has 'level: namespaces' "$out"
out=$(call exec_command '{"cmd":"echo kept > f; head -c 300000000 /dev/zero | tail -c 300000000 | wc -c"}'); echo "${out:0:500}"
check "the memory limit of a session" has 'out of memory\|137\|Killed' "$out"

say reload and restart
check "reload" systemctl reload mcp-sandbox.service
sleep 2
check "the unit lives after a reload" test "$(systemctl is-active mcp-sandbox.service) $(systemctl show -p NRestarts --value mcp-sandbox.service)" = "active 0"
systemctl restart mcp-sandbox.service
out=$(call exec_command '{"cmd":"cat f"}'); echo "${out:0:500}"
check "files outlive a restart" has 'kept' "$out"
check "a resume is told" has 'resumed' "$out"
journalctl -u mcp-sandbox.service --no-pager -o cat | tail -15

say purge
DEBIAN_FRONTEND=noninteractive dpkg -P mcp-sandbox 2>&1 | tail -4
check "tokens go" test ! -e /etc/mcp-sandbox/tokens
check "state stays unless it is given up" test -d /var/lib/mcp-sandbox
say end
