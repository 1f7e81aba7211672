package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// team is servers that share nothing but a bucket and a key.
type team struct {
	t       *testing.T
	program string
	store   string
	key     string
	tokens  string
	ttl     time.Duration
	away    atomic.Bool // of the bucket
}

// shortLease is for tests that wait for its end.
const shortLease = 2500 * time.Millisecond

func newTeam(t *testing.T) *team {
	t.Helper()
	if testing.Short() {
		t.Skip("who the user is decides nothing here")
	}
	t.Parallel() // they wait for leases
	dir := t.TempDir()
	tm := &team{t: t, program: withS3(t), key: filepath.Join(dir, "key"), tokens: filepath.Join(dir, "tokens"), ttl: 20 * time.Second}
	tm.store = bucketBehind(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if tm.away.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	for file, text := range map[string]string{tm.key: strings.Repeat("k", 64) + "\n", tm.tokens: annsToken + "\n" + bobsToken + "\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tm
}

// server starts one on a machine of its own.
func (tm *team) server(args ...string) *network {
	tm.t.Helper()
	base := tm.t.TempDir()
	n := &network{t: tm.t, state: filepath.Join(base, "state"), temp: filepath.Join(base, "tmp")}
	if err := os.Mkdir(n.temp, 0o700); err != nil {
		tm.t.Fatal(err)
	}
	openPath(tm.t, n.temp)
	return tm.start(n, args...)
}

// start runs the server of n's machine at n's address.
func (tm *team) start(n *network, args ...string) *network {
	tm.t.Helper()
	next := &network{t: n.t, state: n.state, temp: n.temp, env: []string{"AWS_ACCESS_KEY_ID=the-key-id", "AWS_SECRET_ACCESS_KEY=the-secret-key"}}
	addr := strings.TrimPrefix(n.url, "http://")
	if addr == "" {
		// Other servers are told the address, so it is not left to the system.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tm.t.Fatal(err)
		}
		addr = l.Addr().String()
		l.Close()
	}
	next.cmd = exec.Command(tm.program, append([]string{
		"serve", "--transport", "http", "--listen", addr, "--token-file", tm.tokens, "--state-dir", n.state, "--structured", "on", "--default-sandbox", "off",
		"--store", tm.store, "--key-file", tm.key, "--lease-ttl", tm.ttl.String(),
	}, args...)...)
	next.launch()
	tm.t.Cleanup(func() {
		if log := next.stderr.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic") {
			tm.t.Error(log)
		}
	})
	return next
}

func (n *network) kill() {
	n.t.Helper()
	if err := n.cmd.Process.Kill(); err != nil {
		n.t.Fatal(err)
	}
	<-n.ended
}

// at is the same client at another server.
func (r *remote) at(n *network) *remote {
	return &remote{n: n, path: r.path, token: r.token, session: r.session}
}

// resumedFrom runs a command and gives what it says of a resume.
func (r *remote) resumedFrom(cmd string) (output, from string, lost []string) {
	r.n.t.Helper()
	res := r.call("exec_command", map[string]any{"cmd": cmd})
	var o struct {
		Output  string `json:"output"`
		Resumed struct {
			From string   `json:"from"`
			Lost []string `json:"lost"`
		} `json:"resumed"`
	}
	if err := json.Unmarshal(res.Structured, &o); err != nil || res.IsError {
		r.n.t.Fatalf("%s: %v %s", cmd, err, res.text())
	}
	return o.Output, o.Resumed.From, o.Resumed.Lost
}

// TestTeamSurvivesKill: a server is killed with its machine, and its clients go on at
// the other one, with the ids they have and every file that was acknowledged.
func TestTeamSurvivesKill(t *testing.T) {
	tm := newTeam(t)
	tm.ttl = shortLease
	one, two := tm.server("--durable", "call"), tm.server("--durable", "call")
	legacy := one.session(annsToken)
	modern := one.client(bobsToken)
	var o struct {
		ID string `json:"sandbox_id"`
	}
	if err := json.Unmarshal(modern.call("session_open", nil).Structured, &o); err != nil || o.ID == "" {
		t.Fatalf("%v %+v", err, o)
	}
	for i := range 3 {
		legacy.sh(fmt.Sprintf("echo %d >> f", i))
		modern.exec(map[string]any{"sandbox_id": o.ID, "cmd": fmt.Sprintf("echo %d >> f", i)})
	}
	one.kill()
	if err := os.RemoveAll(one.temp); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	got, from, lost := legacy.at(two).resumedFrom("cat f")
	t.Logf("a call went through %v after the kill, the lease is %v", time.Since(killed).Round(time.Millisecond), tm.ttl)
	if got != "0\n1\n2\n" || from != "snapshot" || len(lost) == 0 || strings.Contains(strings.Join(lost, "; "), "later changes are lost") {
		t.Errorf("%q from %q, lost %q", got, from, lost)
	}
	if got := modern.at(two).exec(map[string]any{"sandbox_id": o.ID, "cmd": "cat f"}).Output; got != "0\n1\n2\n" {
		t.Errorf("%q", got)
	}
	// The machine that comes back is another server, and what it had is elsewhere.
	if err := os.Mkdir(one.temp, 0o755); err != nil {
		t.Fatal(err)
	}
	back := tm.start(one)
	if got := legacy.at(back).sh("cat f; echo 3 >> f"); got != "0\n1\n2\n" {
		t.Errorf("%q", got)
	}
	if got := legacy.at(two).sh("tail -n 1 f"); got != "3\n" {
		t.Errorf("the call was not sent on: %q", got)
	}
	legacy.at(back).end()
	legacy.at(two).gone()
}

// gone wants the client's session to be unknown.
func (r *remote) gone() {
	r.n.t.Helper()
	_, body, headers := r.message("ls", map[string]any{"path": "."})
	if resp, text := r.send(http.MethodPost, body, headers...); resp.StatusCode != http.StatusNotFound {
		r.n.t.Errorf("an ended session: %s %s", resp.Status, text)
	}
}

// TestTeamFencesStopped: a server that was stopped for longer than its lease finds its
// sessions elsewhere when it goes on. It ends what it had of them, tells no result of
// it, and sends calls on.
func TestTeamFencesStopped(t *testing.T) {
	tm := newTeam(t)
	tm.ttl = shortLease
	one, two := tm.server("--durable", "call"), tm.server("--durable", "call")
	r := one.session(annsToken)
	r.sh("echo stored > f")
	mark := "stopped-" + filepath.Base(filepath.Dir(filepath.Dir(one.state)))
	job := r.exec(map[string]any{"cmd": "while :; do echo one > .f; mv .f f; sleep 0.05; done; : " + mark, "yield_time_ms": 250})
	if job.SessionID == nil {
		t.Fatalf("%+v", job)
	}
	_, body, headers := r.message("exec_command", map[string]any{"cmd": "touch running; sleep 3; echo done", "yield_time_ms": 40000})
	type answer struct {
		status int
		text   string
	}
	late := make(chan answer, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		resp, err := http.DefaultClient.Do(r.request(ctx, http.MethodPost, body, headers...))
		if err != nil {
			late <- answer{0, err.Error()}
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		late <- answer{resp.StatusCode, string(b)}
	}()
	waitFor(t, "the command", func() bool { return strings.Contains(r.sh("ls"), "running") })
	if err := one.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	if got := r.at(two).sh("cat f; rm -f running; echo two > f"); got != "one\n" {
		t.Errorf("%q", got)
	}
	t.Logf("a call went through %v after the stop, the lease is %v", time.Since(stopped).Round(time.Millisecond), tm.ttl)
	if err := one.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if a := <-late; a.status == 200 && strings.Contains(a.text, `"exit_code":0`) {
		t.Errorf("the stopped server told a result: %+v", a)
	}
	waitFor(t, "the old sandbox to end", func() bool { return !running(mark) })
	waitFor(t, "the server to be back", func() bool { return ready(one) })
	if got := r.sh("cat f; ls"); got != "two\nf\n" {
		t.Errorf("%q", got)
	}
	if got := r.at(two).sh("cat f"); got != "two\n" {
		t.Errorf("%q", got)
	}
	if left, _ := filepath.Glob(filepath.Join(one.temp, "mcp-sandbox-*")); len(left) > 1 {
		t.Errorf("left at the stopped server: %v", left)
	}
}

// running looks for a process with text in its arguments.
func running(text string) bool {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), text) {
			return true
		}
	}
	return false
}

func ready(n *network) bool { return readyz(n) == "200 ok\n" }

// readyz is what a supervisor is answered.
func readyz(n *network) string {
	resp, err := http.Get(n.url + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

// TestTeamRestartsInPlace: a server that was killed and is started again on its
// machine goes on with the files as they were last written, also for calls that come
// in at another server.
func TestTeamRestartsInPlace(t *testing.T) {
	tm := newTeam(t)
	one, two := tm.server(), tm.server()
	r := one.session(annsToken)
	r.sh("echo unsaved > f")
	if got := r.at(two).sh("cat f"); got != "unsaved\n" {
		t.Errorf("%q", got)
	}
	one.kill()
	tm.start(one)
	if got, from, _ := r.at(two).resumedFrom("cat f"); got != "unsaved\n" || from != "workspace" {
		t.Errorf("%q from %q", got, from)
	}
}

// TestTeamForwards: whichever server a client asks, the one that holds its session
// answers: progress, processes, cancels and the end of the session.
func TestTeamForwards(t *testing.T) {
	tm := newTeam(t)
	one, two := tm.server(), tm.server()
	r := one.session(annsToken)
	r.sh("echo here > f")
	far := r.at(two)
	job := r.exec(map[string]any{"cmd": "read line; echo got $line", "keep_stdin": true, "yield_time_ms": 250})
	if job.SessionID == nil {
		t.Fatalf("%+v", job)
	}
	if out := far.call("write_stdin", map[string]any{"session_id": *job.SessionID, "chars": "it\n", "yield_time_ms": 5000}); !strings.Contains(out.text(), "got it") {
		t.Errorf("%q", out.text())
	}
	// Large arguments and progress pass whole.
	large := strings.Repeat("large ", 200_000)
	if res := far.call("write_file", map[string]any{"path": "large", "content": large}); res.IsError {
		t.Error(res.text())
	}
	if got := r.sh("wc -c < large"); strings.TrimSpace(got) != fmt.Sprint(len(large)) {
		t.Errorf("%q", got)
	}
	resp, text := far.send(http.MethodPost, `{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"_meta":{"progressToken":"tok"},"name":"exec_command","arguments":{"cmd":"for i in 1 2 3; do echo $i; sleep 0.4; done"}}}`)
	if resp.Header.Get("Content-Type") != "text/event-stream" || !strings.Contains(text, "notifications/progress") || !strings.Contains(text, `"id":77`) {
		t.Errorf("%v %s", resp.Header, text)
	}
	// A cancel reaches the call wherever both were sent.
	mark := "cancel-" + filepath.Base(filepath.Dir(filepath.Dir(one.state)))
	_, body, headers := far.message("exec_command", map[string]any{"cmd": "touch waiting; sleep 1000; : " + mark, "yield_time_ms": 40000})
	ended := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		resp, err := http.DefaultClient.Do(far.request(ctx, http.MethodPost, body, headers...))
		if err != nil {
			ended <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		ended <- string(b)
	}()
	waitFor(t, "the command", func() bool { return strings.Contains(r.sh("ls"), "waiting") })
	if !running(mark) {
		t.Error("it does not run")
	}
	var m struct{ ID json.Number }
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatal(err)
	}
	far.send(http.MethodPost, fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, m.ID))
	if got := <-ended; strings.Contains(got, "result") {
		t.Errorf("a cancelled call was answered: %q", got)
	}
	waitFor(t, "the command to end", func() bool { return !running(mark) })

	// Protocol 2026-07-28: a sandbox is at the server where it was opened.
	modern := one.client(bobsToken)
	var o struct {
		ID string `json:"sandbox_id"`
	}
	if err := json.Unmarshal(modern.call("session_open", nil).Structured, &o); err != nil || o.ID == "" {
		t.Fatalf("%v %+v", err, o)
	}
	modern.exec(map[string]any{"sandbox_id": o.ID, "cmd": "echo modern > f"})
	if got := modern.at(two).exec(map[string]any{"sandbox_id": o.ID, "cmd": "cat f"}).Output; got != "modern\n" {
		t.Errorf("%q", got)
	}
	if res := modern.at(two).call("session_close", map[string]any{"sandbox_id": o.ID}); res.IsError {
		t.Error(res.text())
	}
	modern.bad("session_not_found", "ls", map[string]any{"sandbox_id": o.ID, "path": "."})

	// Another principal's token opens nothing on the way.
	foreign := two.client(bobsToken)
	foreign.session = r.session
	foreign.gone()
	forged := far.request(context.Background(), http.MethodPost, body, append(headers, "Mcp-Sandbox-Forwarded: eyJ0byI6IiJ9.00")...)
	if resp, err := http.DefaultClient.Do(forged); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a forged header: %v %v", resp, err)
	}
	far.end()
	r.gone()
	far.gone()
	waitFor(t, "the workspace to go", func() bool { left, _ := os.ReadDir(one.temp); return len(left) == 0 })
}

// TestTeamMoves: a quiet session moves to the server where its client calls, instead of
// being sent on for ever.
func TestTeamMoves(t *testing.T) {
	if !long() {
		t.Skip("it takes half a minute: make test-long")
	}
	tm := newTeam(t)
	one, two := tm.server(), tm.server()
	r := one.session(annsToken)
	r.sh("echo mine > f")
	moved := false
	for end := time.Now().Add(3 * patience); !moved && time.Now().Before(end); time.Sleep(time.Second) {
		got, from, _ := r.at(two).resumedFrom("cat f")
		if moved = from == "snapshot"; got != "mine\n" {
			t.Fatalf("%q", got)
		}
	}
	if !moved {
		t.Error("it stayed")
	}
}

// TestTeamBucketAway: while the store is away for longer than the lease nobody runs
// anything; after that, sessions go on where they were, with their files.
func TestTeamBucketAway(t *testing.T) {
	tm := newTeam(t)
	tm.ttl = shortLease
	one := tm.server()
	r := one.session(annsToken)
	mark := "away-" + filepath.Base(filepath.Dir(filepath.Dir(one.state)))
	r.exec(map[string]any{"cmd": "echo unsaved > f; sleep 1000; : " + mark, "yield_time_ms": 250})
	if !running(mark) {
		t.Fatal("it does not run")
	}
	tm.away.Store(true)
	waitFor(t, "the sandbox to end", func() bool { return !running(mark) })
	if got := readyz(one); !strings.HasPrefix(got, "503 the store cannot be reached") {
		t.Errorf("a server that can hold nothing says %q", got)
	}
	type result struct {
		text string
		at   time.Time
	}
	got := make(chan result, 1)
	go func() { got <- result{r.sh("cat f"), time.Now()} }()
	time.Sleep(tm.ttl)
	back := time.Now()
	tm.away.Store(false)
	if g := <-got; g.text != "unsaved\n" || g.at.Before(back) {
		t.Errorf("%+v", g)
	}
}

// TestTeamOpensOnce: calls at the same time that open a sandbox of one name get the same
// one, at whichever server.
func TestTeamOpensOnce(t *testing.T) {
	tm := newTeam(t)
	one, two := tm.server(), tm.server()
	for i := range 4 {
		ids := make(chan string, 6)
		for j := range cap(ids) {
			n := []*network{one, two}[j%2]
			go func() {
				res := n.client(annsToken).call("session_open", map[string]any{"name": fmt.Sprintf("box%d", i)})
				ids <- fmt.Sprint(res.IsError, strings.SplitN(res.text(), "\n", 2)[0])
			}()
		}
		for range cap(ids) {
			if got, want := <-ids, fmt.Sprintf("falsesandbox_id: name:box%d", i); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
}
