package confine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Restrictions cannot be undone, so they are tried in a child: the test binary
// again, running TestLayerChild alone with the operation's name in the
// environment.

const layerChildEnv = "CONFINE_TEST_LAYER_CHILD"

// layerChildren are the operations; each runs on a locked thread and returns
// what the parent compares.
var layerChildren = sync.OnceValue(func() map[string]func(json.RawMessage) (any, error) {
	return map[string]func(json.RawMessage) (any, error){
		"seccomp-table":  childSeccompTable,
		"seccomp-calls":  childSeccompCalls,
		"seccomp-int80":  childSeccompInt80,
		"seccomp-thread": childSeccompThread,
		"confined-exec":  childConfinedExec,
		"landlock":       childLandlock,
		"landlock-only":  childLandlockOnly,
		"probe":          childProbe,
		"matrix":         childMatrix,
	}
})

type layerAnswer struct {
	Err   string
	Value json.RawMessage
}

func TestLayerChild(t *testing.T) {
	op := os.Getenv(layerChildEnv)
	if op == "" {
		return // an ordinary run: there is nothing to test here
	}
	runtime.LockOSThread()
	arg := json.RawMessage(os.Getenv(layerChildEnv + "_ARG"))
	v, err := layerChildren()[op](arg)
	var a layerAnswer
	if err != nil {
		a.Err = err.Error()
	}
	a.Value, _ = json.Marshal(v)
	b, _ := json.Marshal(a)
	os.NewFile(3, "answer").Write(b)
	os.Exit(0)
}

// runLayerChild runs op in a child and decodes its answer into out. It returns
// the child's wait status for operations that are meant to kill it.
func runLayerChild(t *testing.T, op string, arg, out any) (string, syscall.WaitStatus) {
	t.Helper()
	return runLayerChildAs(t, &syscall.SysProcAttr{}, op, arg, out)
}

func runLayerChildAs(t *testing.T, attr *syscall.SysProcAttr, op string, arg, out any) (string, syscall.WaitStatus) {
	t.Helper()
	b, err := json.Marshal(arg)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe, "-test.run=^TestLayerChild$")
	// The race detector would sleep a second at every exit.
	cmd.Env = append(os.Environ(), layerChildEnv+"="+op, layerChildEnv+"_ARG="+string(b), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = attr
	cmd.ExtraFiles = []*os.File{w}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		w.Close()
		t.Fatal(err)
	}
	w.Close()
	var a layerAnswer
	decodeErr := json.NewDecoder(r).Decode(&a)
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if out != nil {
		if decodeErr != nil {
			t.Fatalf("child %s: no answer (%v, %v)\n%s", op, decodeErr, cmd.ProcessState, output.Bytes())
		}
		if a.Err != "" {
			t.Fatalf("child %s: %s\n%s", op, a.Err, output.Bytes())
		}
		if err := json.Unmarshal(a.Value, out); err != nil {
			t.Fatal(err)
		}
	}
	return output.String(), status
}

// noSkip turns a missing precondition into a failure where the environment says
// that nothing may be skipped.
func noSkip(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("MCP_SANDBOX_TEST_NOSKIP") == "1" && !hostWithoutNamespaces() {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// hostWithoutNamespaces: this run is about such a host, so what needs them is
// proven in the runs beside it.
func hostWithoutNamespaces() bool { return os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" }

func needNamespaces(t testing.TB, l sandbox.Level) {
	t.Helper()
	if hostWithoutNamespaces() && (l == sandbox.LevelNamespaces || l == sandbox.LevelNamespacesNoProc) {
		t.Skip("this run is about a host without user namespaces")
	}
}

func needTools(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			noSkip(t, "%s is not installed", n)
		}
	}
}

func noNewPrivs() error {
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// waitUntil waits for a condition that another process brings about.
func waitUntil(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s until %s", what)
		}
	}
}
