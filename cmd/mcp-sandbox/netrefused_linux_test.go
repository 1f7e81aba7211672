package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// networkRefusals are commands that the network mode refuses something, each with
// what the result must say, and nothing for "".
var networkRefusals = map[string][]struct{ cmd, note string }{
	"loopback": {
		{`python3 -c 'import socket; socket.getaddrinfo("a.example.com", 443)'`, "network: the name a.example.com was not looked up: this session has no network but its own loopback; the operator can allow it with --network allow --allow-host a.example.com"},
		{`curl -s https://b.example.com/ 2>/dev/null`, "the name b.example.com was not looked up"},
		{`node -e 'require("dns").resolve4("c.example.com", e => process.exit(e ? 3 : 0))'`, "the name c.example.com was not looked up"},
		{`curl -6 -s https://six.example.com/`, "the name six.example.com was not looked up"},
		{`bash -c 'echo > /dev/tcp/192.0.2.1/25' 2>/dev/null`, "network: 192.0.2.1:25 was not reached: this session has no network but its own loopback; the operator can allow it with --network allow --allow-host 192.0.2.1:25"},
		{`bash -c 'echo > /dev/tcp/2001:db8::1/443'`, "network: [2001:db8::1]:443 was not reached: this session has no network but its own loopback; the operator can allow it with --network allow --allow-host 2001:db8::1"},
		{`curl -s http://d.example.com/; true`, ""},
		{`curl -sS http://e.example.com/ || true`, "the name e.example.com was not looked up"},
	},
	"none": {
		{`python3 -c 'import socket; socket.getaddrinfo("a.example.com", 443)'`, "network: the network was not reached: this session has no network; the operator can allow it with --network allow"},
		{`curl -sS https://b.example.com/`, "network: the name b.example.com was not looked up: this session has no network; the operator can allow it with --network allow --allow-host b.example.com"},
		{`python3 -c 'import socket; socket.create_connection(("192.0.2.1", 25))'`, "network: the network was not reached: this session has no network"},
		{`python3 -c 'import socket
try: socket.socket()
except OSError: pass
1/0'`, ""},
	},
	"allow": {
		{`bash -c 'echo > /dev/tcp/good.example/8443'`, "network: good.example:8443 is not allowed: the rule for it does not cover this port (rule good.example); start the server with --allow-host good.example:8443 to allow it"},
		{`curl --noproxy '*' -6 -sS http://good.example:5000/`, "network: good.example:5000 is not allowed"},
		{`python3 -c 'import socket; socket.create_connection(("93.184.215.14", 5432))'`, "network: 93.184.215.14:5432 is not allowed: the allow list has no rule for it; start the server with --allow-host 93.184.215.14:5432 to allow it"},
		{`curl --noproxy '*' -sS https://[2606:4700::1]/`, "network: [2606:4700::1]:443 is not allowed: the allow list has no rule for it; start the server with --allow-host 2606:4700::1 to allow it"},
		{`bash -c 'echo > /dev/tcp/2606:4700::1/22'`, "network: [2606:4700::1]:22 is not allowed: the allow list has no rule for it; start the server with --allow-host [2606:4700::1]:22 to allow it"},
		{fetch("http://a.onion/"), "network: a.onion:80 is allowed, and the server could not reach it: its name has no address"},
		{`curl -sS http://b.onion/ -x 127.0.0.1:3128 -o /dev/null`, "network: b.onion:80 is allowed, and the server could not reach it: its name has no address"},
		{`curl -sS https://c.onion/ -x 127.0.0.1:3128`, "network: c.onion:443 is allowed, and the server could not reach it: its name has no address"},
		{`python3 -c 'import socket; s = socket.create_connection(("d.onion", 443)); s.sendall(b"\x16\x03\x01"); s.recv(1)'`, "network: d.onion:443 is allowed, and the server could not reach it: its name has no address"},
		{fetch("http://127.0.0.1:1/"), "network: 127.0.0.1:1 is allowed, and the server could not reach it: connection refused"},
		{`python3 -c 'import socket; socket.create_connection(("127.0.0.1", 1)).recv(1)'`, "network: 127.0.0.1:1 is allowed, and the server could not reach it: connection refused"},
		{`bash -c 'echo > /dev/tcp/127.0.0.1/22 || echo > /dev/tcp/::1/22 || echo > /dev/tcp/198.18.0.2/22'`, ""},
	},
}

// TestNetworkRefusalsExplained: names, addresses and ports that a session does not
// reach are told from what was tried, whatever the output says of it, and to the
// command that tried.
func TestNetworkRefusalsExplained(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("nothing tells of connections at this level")
	}
	needsOwnNetwork(t)
	needPrograms(t, "python3", "curl", "node")
	for network, cases := range networkRefusals {
		t.Run(network, func(t *testing.T) {
			args := []string{"--network", network}
			if network == "allow" {
				args = append(args, "--allow-host", "good.example", "--allow-host", "*.onion", "--allow-host", "127.0.0.1:1")
			}
			c := startServer(t, args...)
			c.initialize("2025-11-25")
			var wg sync.WaitGroup
			for _, tc := range cases {
				wg.Go(func() { // each is told its own
					o := c.exec(map[string]any{"cmd": tc.cmd, "yield_time_ms": 25000})
					notes := sandboxNotes(o)
					if tc.note == "" && len(notes) != 0 || tc.note != "" && (len(notes) != 1 || !strings.Contains(notes[0], tc.note)) {
						t.Errorf("%s: %q, want %q; %s", tc.cmd, notes, tc.note, fmt.Sprintf("%.300s", o.Output))
					}
				})
			}
			wg.Wait()
		})
	}
}
