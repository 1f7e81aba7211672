package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// The matrix of hosts: what a session is on each, as documented, and never open
// in silence. Run as root and as an ordinary user it is the whole table.

type matrixArg struct {
	Host       degradedHost
	Policy     sandbox.Policy
	Outside    string // a directory with a canary file "f"
	Socket     string // a unix socket outside
	TCP        string // port of a listener on the host's loopback
	ServerPid  int
	TestScript string
}

type matrixAnswer struct {
	Code, Err string // of Start
	Report    sandbox.Report
	Output    string // of the script
	Status    int
}

func childMatrix(raw json.RawMessage) (any, error) {
	var arg matrixArg
	if err := json.Unmarshal(raw, &arg); err != nil {
		return nil, err
	}
	if err := arg.Host.degrade(); err != nil {
		return nil, err
	}
	var a matrixAnswer
	s, err := Start(context.Background(), arg.Policy)
	if err != nil {
		a.Err = err.Error()
		var e *sandbox.Error
		if errors.As(err, &e) {
			a.Code = e.Code()
		}
		return a, nil
	}
	defer s.Close()
	a.Report = s.Report()
	if s.Gate() == GateNames {
		// The first thing that a server asks of such a session.
		names, err := s.ListenNames()
		if err != nil {
			return nil, fmt.Errorf("the socket for names: %w", err)
		}
		defer names.Close()
	}
	p, err := s.Spawn(context.Background(), sandbox.Command{Argv: []string{"/bin/sh", "-c", arg.TestScript}, Env: append(s.Environ(), "LC_ALL=C"), Dir: arg.Policy.Workspace})
	if err != nil {
		return nil, fmt.Errorf("spawn: %w", err)
	}
	out, err := io.ReadAll(p.Stdout())
	p.Stdout().Close()
	a.Output, a.Status = string(out), p.Wait().Code
	return a, err
}

// AC-33, AC-73: {full host, no user namespaces, Docker's filter, masked /proc,
// Landlock denied, ...} x what may be asked.
func TestMatrixOfHosts(t *testing.T) {
	hostCapabilities(t)
	needTools(t, "python3")
	arch, err := nativeSeccompArch()
	if err != nil {
		t.Fatal(err)
	}
	filter := func(rules ...syscallRule) []unix.SockFilter {
		t.Helper()
		prog, err := buildSeccomp(arch, rules, seccompOptions{Network: sandbox.NetworkHost})
		if err != nil {
			t.Fatal(err)
		}
		return prog
	}
	noClone := syscallRule{name: "clone", amd64: 56, arm64: 220, clauses: func(seccompOptions) []clause {
		return []clause{deny(unix.EPERM, anySet(0, cloneNewFlags))}
	}}
	noClone3 := syscallRule{name: "clone3", amd64: 435, arm64: 435, errno: unix.ENOSYS}
	noUnshare := syscallRule{name: "unshare", amd64: 272, arm64: 97, errno: unix.EPERM}
	noMount := syscallRule{name: "mount", amd64: 165, arm64: 40, errno: unix.EPERM}
	noLandlock := syscallRule{name: "landlock_create_ruleset", amd64: 444, arm64: 444, errno: unix.EPERM}
	noSeccomp := syscallRule{name: "seccomp", amd64: 317, arm64: 277, errno: unix.EPERM}
	docker := filter(noClone, noClone3, noUnshare, noMount)

	for _, c := range []struct {
		name      string
		host      degradedHost
		ask, min  sandbox.Level
		want      sandbox.Level // "" for refused
		mustsay   string
		landlocks bool
	}{
		{"full host", degradedHost{}, "", "", sandbox.LevelNamespaces, "", true},
		{"full host, landlock by name", degradedHost{}, sandbox.LevelLandlock, "", sandbox.LevelLandlock, "", true},
		{"no user namespaces", degradedHost{Namespace: true, NoUserNS: true}, "", "", sandbox.LevelLandlock, "max_user_namespaces", true},
		{"no user namespaces, namespaces asked", degradedHost{Namespace: true, NoUserNS: true}, sandbox.LevelNamespaces, "", "", "", true},
		{"no user namespaces, minimum namespaces-noproc", degradedHost{Namespace: true, NoUserNS: true}, "", sandbox.LevelNamespacesNoProc, "", "", true},
		{"Docker's filter", degradedHost{Filter: docker}, "", "", sandbox.LevelLandlock, "filter", true},
		{"Docker's filter, minimum namespaces", degradedHost{Filter: docker}, "", sandbox.LevelNamespaces, "", "", true},
		{"masked /proc", degradedHost{Namespace: true, MaskProc: true}, "", "", sandbox.LevelNamespacesNoProc, "masked", true},
		{"masked /proc, minimum namespaces", degradedHost{Namespace: true, MaskProc: true}, "", sandbox.LevelNamespaces, "", "", true},
		{"Landlock denied", degradedHost{Filter: filter(noLandlock)}, "", "", sandbox.LevelNamespaces, "Landlock", false},
		{"Landlock denied, landlock asked", degradedHost{Filter: filter(noLandlock)}, sandbox.LevelLandlock, "", "", "", false},
		{"Landlock and namespaces denied", degradedHost{Filter: filter(noClone, noClone3, noLandlock)}, "", "", "", "", false},
		{"seccomp denied", degradedHost{Filter: filter(noSeccomp)}, "", "", "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.landlocks {
				needLandlock(t, 6)
			}
			arg := matrixArg{Host: c.host, ServerPid: os.Getpid()}
			dir := testWorkspace(t)
			arg.Policy = sandbox.Policy{Workspace: dir, UID: -1, GID: -1, AllowRoot: true, Path: os.Getenv("PATH"), Level: c.ask, MinLevel: c.min, Network: sandbox.NetworkLoopback}
			// t.TempDir holds the test's name, too long for a unix socket's path.
			base, err := os.MkdirTemp("", "m")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(base) })
			arg.Outside = filepath.Join(base, "o")
			if err := os.Mkdir(arg.Outside, 0o777); err != nil {
				t.Fatal(err)
			}
			canary := filepath.Join(arg.Outside, "f")
			if err := os.WriteFile(canary, []byte("canary"), 0o666); err != nil {
				t.Fatal(err)
			}
			// Everybody may walk there and change it, so that only the confinement
			// stands between, whoever runs the commands.
			for _, d := range []string{arg.Outside, filepath.Dir(arg.Outside)} {
				if err := os.Chmod(d, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(canary, 0o666); err != nil {
				t.Fatal(err)
			}
			arg.Socket = filepath.Join(arg.Outside, "s")
			l, err := net.Listen("unix", arg.Socket)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := os.Chmod(arg.Socket, 0o777); err != nil {
				t.Fatal(err)
			}
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer tcp.Close()
			port := tcp.Addr().(*net.TCPAddr).Port
			python := func(code string) string { return "python3 -c '" + code + "'" }
			tries := []string{
				"cat " + canary, "echo x >> " + canary, "touch " + arg.Outside + "/new", "ls " + arg.Outside,
				"ln " + canary + " stolen", "ln -sf " + arg.Outside + " l; cat l/f",
				python(fmt.Sprintf(`import socket; s=socket.socket(socket.AF_UNIX); s.connect("%s")`, arg.Socket)),
				python(fmt.Sprintf(`import socket; s=socket.create_connection(("127.0.0.1",%d),2)`, port)),
				python(`import socket; socket.socket(40, 1)`),
				python(`import ctypes,os; l=ctypes.CDLL(None,use_errno=True); os._exit(0 if l.unshare(0x10000000)==0 else 1)`),
				python(`import fcntl; fcntl.ioctl(0, 0x5412, b"x")`),
				fmt.Sprintf("kill -0 %d", arg.ServerPid),
				python(`import ctypes,os; os._exit(ctypes.CDLL(None).prctl(39,0,0,0,0))`), // PR_GET_NO_NEW_PRIVS
				python(`import ctypes,os; os._exit(ctypes.CDLL(None).prctl(21,0,0,0,0))`), // PR_GET_SECCOMP
				"grep 'Cap[IPEA][a-z]*:' /proc/self/status | grep -qv 0000000000000000",
			}
			var script strings.Builder
			for i, try := range tries {
				fmt.Fprintf(&script, "if ( %s ) >/dev/null 2>&1; then echo OPEN %d; fi\n", try, i)
			}
			script.WriteString("echo mine > own && cat own && exit 7\n")
			arg.TestScript = script.String()

			// Without confinement each of them must be possible, or its failure would
			// prove nothing. What an ordinary user or this kernel lacks anyway may
			// fail: capabilities, vsock, a terminal.
			if c.name == "full host" {
				open := exec.Command("/bin/sh", "-c", script.String())
				open.Dir = dir
				out, err := open.Output()
				if st, ok := err.(*exec.ExitError); !ok || st.ExitCode() != 7 {
					t.Fatalf("unconfined: %v\n%s", err, out)
				}
				for i, try := range tries {
					may := strings.Contains(try, "Cap") || strings.Contains(try, "socket(40") || strings.Contains(try, "ioctl")
					if !may && !strings.Contains(string(out), fmt.Sprintf("OPEN %d\n", i)) {
						t.Errorf("not even possible without confinement: %s", try)
					}
				}
				for _, p := range []string{"stolen", "l", "own"} {
					os.Remove(filepath.Join(dir, p))
				}
				os.Remove(filepath.Join(arg.Outside, "new"))
				if err := os.WriteFile(canary, []byte("canary"), 0o666); err != nil {
					t.Fatal(err)
				}
			}

			var a matrixAnswer
			runLayerChildAs(t, c.host.attr(), "matrix", arg, &a)
			if c.want == "" {
				if a.Code != "confinement_unavailable" {
					t.Errorf("code %q, level %q: %s", a.Code, a.Report.Level, a.Err)
				}
				return
			}
			if a.Err != "" || a.Report.Level != c.want {
				t.Fatalf("level %q, want %q: %s", a.Report.Level, c.want, a.Err)
			}
			if a.Output != "mine\n" || a.Status != 7 {
				for i, try := range tries {
					if strings.Contains(a.Output, fmt.Sprintf("OPEN %d\n", i)) {
						t.Errorf("open: %s", try)
					}
				}
				t.Errorf("status %d, output %q", a.Status, a.Output)
			}
			said := fmt.Sprint(a.Report)
			if !strings.Contains(said, c.mustsay) {
				t.Errorf("the report does not say %q: %+v", c.mustsay, a.Report)
			}
			if c.mustsay != "" && !slices.ContainsFunc(a.Report.Layers, func(l sandbox.Layer) bool { return l.State != sandbox.StateOn && l.Remedy != "" }) {
				t.Errorf("no layer of the report is missing with a remedy: %+v", a.Report.Layers)
			}
			if b, err := os.ReadFile(canary); err != nil || string(b) != "canary" {
				t.Errorf("the canary is %q (%v)", b, err)
			}
			if _, err := os.Lstat(filepath.Join(arg.Outside, "new")); !errors.Is(err, os.ErrNotExist) {
				t.Error("something new outside")
			}
		})
	}
	if left := ourCgroups(t); len(left) > 0 {
		t.Errorf("cgroups left: %q", left)
	}
}

// attr puts the child into namespaces of its own where the degradation needs
// them, as the same user.
func (d degradedHost) attr() *syscall.SysProcAttr {
	if !d.Namespace {
		return &syscall.SysProcAttr{}
	}
	uid, gid := os.Geteuid(), os.Getegid()
	return &syscall.SysProcAttr{
		Cloneflags:                 syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		GidMappingsEnableSetgroups: uid == 0,
		AmbientCaps:                []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE},
	}
}
