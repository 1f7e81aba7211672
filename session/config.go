package session

import (
	"cmp"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mcp-sandbox/audit"
	"mcp-sandbox/directory"
	"mcp-sandbox/gitconfig"
	"mcp-sandbox/manifest"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/snapshot"
)

// Config is what every session of a manager is made with. The zero value is an
// owned temporary workspace with the default confinement.
type Config struct {
	// Root is a caller-chosen workspace, kept at the end; "" makes an owned one.
	Root string
	// WorkspaceAlias is "" or a path such as /workspace at which commands and file
	// tools find the workspace as well, the former at the levels with namespaces.
	WorkspaceAlias string
	// rootName is the path by which Root was named, where links lead to it.
	rootName string
	// Staged keeps Root as it is: what sessions change goes to a stage in StateDir, and
	// reaches Root when a person applies it. StageApply lets the model apply what is
	// neither protected nor executable nor in conflict.
	Staged, StageApply bool
	// TempDir is where owned workspaces are made; "" is the system's.
	TempDir string
	// StateDir is the server's own directory; "" is DefaultStateDir.
	StateDir string
	// Shell runs commands that name no other; "" is bash where it exists, else sh.
	Shell string
	// Home is "workspace", "private", or "" for workspace when owned.
	Home string
	// Path is the PATH searched for toolchains; normally the server's own.
	Path string
	// NoCache has the caches of package managers and compilers end with each
	// session. Otherwise those of one principal in one Root are kept in StateDir,
	// all together within CacheLimit bytes, 0 is 10 GiB.
	NoCache    bool
	CacheLimit int64
	// Env holds NAME=VALUE pairs set for every command, over the clean base.
	Env []string
	// Read and Write are absolute host paths that are granted. DenyRead are
	// patterns, as package deny reads them, of what no command, file tool or
	// snapshot may read; DenySecrets adds the common ones.
	Read, Write, DenyRead []string
	DenySecrets           bool
	// Git is who commits are made as, and what git takes for granted of the
	// person whose sessions these are; zero is nobody.
	Git gitconfig.User
	// Protect adds to DefaultProtected, relative to the workspace.
	Protect []string
	// AllowRoot lets a root server's commands run as root where the workspace
	// belongs to root.
	AllowRoot bool
	// ReadOnly refuses every change through the file tools.
	ReadOnly bool
	// ReadOnlyRoot keeps commands from changing Root as well; ReadOnly is set with it.
	ReadOnlyRoot bool
	// Network is none, loopback (default), allow or host.
	Network sandbox.Network
	Limits  sandbox.Limits
	// Level is auto (default) or a level by name; MinLevel refuses weaker ones.
	Level, MinLevel sandbox.Level
	// MaxYield caps how long a call may wait for a command; 0 is 45 s.
	MaxYield time.Duration
	// OnCancel is "kill" (default) or "leave": what a cancelled call does to the
	// command it waits for.
	OnCancel string
	// SnapshotStore is the directory of snapshots; "" is one below StateDir, and for
	// an owned workspace one that ends with the session.
	SnapshotStore string
	// OpenStore opens another store for the workspace of a key, such as one in
	// object storage; nil is the directory. It is the operator's to prune.
	OpenStore func(key string) (snapshot.Store, error)
	// Directory is where kept sessions are recorded in place of StateDir, for servers
	// that share nothing else; nil is StateDir. It wants Key, OpenStore, which gets
	// the id of a session instead of a workspace's key, and PeerURL.
	Directory directory.Directory
	// Key signs sessions and their ids, at least 16 bytes; nil is one of StateDir's own.
	Key []byte
	// PeerURL is where the other servers of Directory reach this one.
	PeerURL string
	// LeaseTTL is for how long such a server may be silent before others take over its
	// sessions; 0 is 20 s.
	LeaseTTL time.Duration
	// Durable says what of a kept session survives its machine.
	Durable Durable
	// From is what a new workspace starts with: a tar file, ID, label or latest of
	// the workspace's own snapshots, or ROOT@ID for those of another directory.
	// A resumed session and a caller's directory with something in it are left as
	// they are. See CheckFrom.
	From string
	// Baseline keeps calls undoable in a caller's directory and in kept sessions: a
	// snapshot before the first call that can change something, and then before
	// each that may destroy. See undo.
	Baseline bool
	// BaselineLimit bounds the files that such a snapshot reads, in bytes; 0 is
	// 4 GiB.
	BaselineLimit int64
	// CheckpointEvery takes a snapshot after so many calls that can change
	// something; 0 is never.
	CheckpointEvery int
	// SnapshotIgnore are globs of paths that are neither stored nor restored.
	SnapshotIgnore []string
	// Retention bounds what is kept; zero is DefaultRetention.
	Retention Retention
	// Name keeps the session beyond the server: its workspace and state stay at
	// the end, and the next server with the same state directory resumes it. A
	// manager with a name has one session.
	Name string
	// NameOf names each client's session by its key, in place of Name: every one
	// is kept and resumed. The name must not give the key away.
	NameOf func(key string) string
	// Manifest is what a new workspace holds and commands see; nil is nothing.
	Manifest *manifest.Manifest
	// Expose are the ports that expose_port may open; see AnyPort.
	Expose []int
	// SettingsFile is what this configuration was read from, "" for none. It may not
	// lie where a session could change it, or it would set the policy of the next.
	SettingsFile string
	// Private are files of the server's own, such as its audit log and manifest.
	// They may not lie where commands or file tools reach.
	Private []string
	// MaxSessions bounds how many live at once; 0 is 64.
	MaxSessions int
	// MaxPerPrincipal bounds those of one principal (see Key); 0 means no bound of
	// its own.
	MaxPerPrincipal int
	// MaxKept bounds the sessions of one principal that are kept, running or not,
	// under the names of KeptName; 0 is unlimited.
	MaxKept int
	// LimitsOf are limits of a principal's own; nil and zeros leave those above.
	LimitsOf func(principal string) PrincipalLimits
	// Idle ends sessions without a call or a running process for that long: a
	// kept one is resumed by its client's next call. 0 is never.
	Idle time.Duration
	// MaxAge deletes sessions that old, whatever they do. 0 is never.
	MaxAge time.Duration
	// WorkspaceLimit bounds what a workspace we made may hold, in bytes; 0 means no
	// bound. It is watched, not enforced by the file system: see workspaceWatch.
	WorkspaceLimit int64
	// CloseWithin bounds the checkpoint of a session's end; 0 is 20 s.
	CloseWithin time.Duration
	// Audit records tool calls and the lives of sessions; nil records nothing. The
	// manager closes it.
	Audit *audit.Auditor
	// Denied counts what a sandbox refused a command, by file, limit or network;
	// nil counts nothing.
	Denied func(kind string)
	Log    *slog.Logger
	// TellsStart is of a program that prints the error of a session which could not
	// be started itself, so it is not logged.
	TellsStart bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	snapshotSkip []string // ephemeral paths
	principal    string   // whose session it is
	opening      *Opening // how a client asked for it
}

func (c *Config) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// Resolve fills defaults in and refuses what cannot be served. It makes nothing.
// Codes: invalid_argument, not_found, not_a_directory, permission_denied.
func (c Config) Resolve() (Config, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 64
	}
	if c.Network == "" {
		c.Network = "loopback"
	}
	if err := c.validate(); err != nil {
		return c, err
	}
	var err error
	if c.Shell, err = ResolveShell(c.Shell); err != nil {
		return c, err
	}
	if c.StateDir == "" {
		c.StateDir = DefaultStateDir()
	}
	if c.StateDir != "" {
		abs, err := filepath.Abs(c.StateDir)
		if err != nil {
			return c, errorf("invalid_argument", err, "the state directory cannot be made absolute; name it in full")
		}
		c.StateDir = abs
	}
	if c.Root == "" && c.Manifest != nil {
		c.Root = c.Manifest.Root
	}
	if c.Root != "" {
		root, err := CheckRoot(c.Root, c.StateDir)
		if err != nil {
			return c, err
		}
		if abs, err := filepath.Abs(c.Root); err == nil && abs != root {
			c.rootName = abs
		}
		c.Root = root
	}
	if err := c.checkPolicy(); err != nil {
		return c, err
	}
	if err := c.CheckPrivate(); err != nil {
		return c, err
	}
	return c, nil
}

// validate refuses what no session could be made with, before any is.
// Codes: invalid_argument.
func (c *Config) validate() error {
	for _, kv := range c.Env {
		name, _, ok := strings.Cut(kv, "=")
		if err := sandbox.CheckEnvName(name); err != nil {
			return err
		}
		if !ok {
			return errorf("invalid_argument", nil, "the environment entry %q has no value; write NAME=VALUE", name)
		}
		if strings.ContainsRune(kv, 0) {
			return errorf("invalid_argument", nil, "the environment entry %q holds a NUL byte; remove it", name)
		}
	}
	if c.Name != "" {
		if err := checkName(c.Name); err != nil {
			return err
		}
	}
	if m := c.Manifest; m != nil && m.Root != "" && c.Root != "" && filepath.Clean(m.Root) != filepath.Clean(c.Root) {
		return errorf("invalid_argument", nil, "the manifest's root and --root name different directories; keep one")
	}
	if err := c.checkAlias(); err != nil {
		return err
	}
	if err := c.checkStaged(); err != nil {
		return err
	}
	if err := c.checkReadOnly(); err != nil {
		return err
	}
	if err := oneOf("home", c.Home, "", "workspace", "private"); err != nil {
		return err
	}
	if err := oneOf("network", c.Network, "", "none", "loopback", "allow", "host"); err != nil {
		return err
	}
	return oneOf("on-cancel", c.OnCancel, "", "kill", "leave")
}

// CheckPrivate refuses private files where a session could reach them. Codes:
// invalid_argument, not_found.
func (c *Config) CheckPrivate() error {
	open := slices.Concat(c.Read, c.Write)
	writable := slices.Clone(c.Write)
	root := c.Root
	if m := c.Manifest; m != nil {
		for _, g := range m.Grants {
			open = append(open, g.Path)
			if !g.ReadOnly {
				writable = append(writable, g.Path)
			}
		}
		root = cmp.Or(root, m.Root)
	}
	if root != "" {
		open, writable = append(open, root), append(writable, root)
	}
	if file := c.SettingsFile; file != "" {
		if err := outOfReach(file, writable, "commands and file tools can change files; move it out of the workspace and the directories granted for writing"); err != nil {
			return err
		}
	}
	for _, file := range c.Private {
		if err := outOfReach(file, open, "commands and file tools can reach; move it out of the workspace and the granted directories"); err != nil {
			return err
		}
	}
	return nil
}

// outOfReach refuses a file that lies in one of the places, by its name or by what
// it links to.
func outOfReach(file string, places []string, why string) error {
	// The file may not exist yet, its directory must.
	dir, err := filepath.Abs(filepath.Dir(file))
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return errorf("not_found", err, "the directory of %q does not exist; create it or name another", file)
	}
	names := []string{filepath.Join(dir, filepath.Base(file))}
	if to, err := filepath.EvalSymlinks(names[0]); err == nil {
		names = append(names, to)
	}
	for _, o := range places {
		if abs, err := filepath.Abs(o); err == nil {
			o = abs
		}
		if r, err := filepath.EvalSymlinks(o); err == nil {
			o = r
		}
		for _, name := range names {
			if name == o || within(name, o) {
				return errorf("invalid_argument", nil, "%q lies where %s", file, why)
			}
		}
	}
	return nil
}

// secretEnv are the values of Env whose names say that they are secrets.
func (c *Config) secretEnv() []string {
	var out []string
	for _, kv := range c.Env {
		name, value, _ := strings.Cut(kv, "=")
		name = strings.ToUpper(name)
		for _, mark := range []string{"KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTH"} {
			if strings.Contains(name, mark) {
				out = append(out, value)
				break
			}
		}
	}
	return out
}

func oneOf[T ~string](what string, got T, allowed ...T) error {
	if slices.Contains(allowed, got) {
		return nil
	}
	names := make([]string, len(allowed)-1)
	for i, a := range allowed[1:] {
		names[i] = string(a)
	}
	return errorf("invalid_argument", nil, "%s is %q; use one of %s", what, got, strings.Join(names, ", "))
}
