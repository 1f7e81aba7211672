package sandbox

import (
	"cmp"
	"log/slog"
	"os"
)

// Level is how strong a confinement is.
type Level string

// The levels, strongest first. LevelAuto is only a request: it takes the
// strongest that starts, and never LevelNone.
const (
	LevelAuto             Level = "auto"
	LevelNamespaces       Level = "namespaces"        // all layers
	LevelNamespacesNoProc Level = "namespaces-noproc" // as above, the host masks /proc
	LevelLandlock         Level = "landlock"          // Landlock and seccomp only
	LevelSeatbelt         Level = "seatbelt"          // macOS
	LevelNone             Level = "none"              // no confinement, only by name
)

// Network is what of the network a command sees.
type Network string

// The network modes. NetworkAllow is NetworkLoopback with a proxy listening
// inside.
const (
	NetworkNone     Network = "none"     // no sockets but AF_UNIX
	NetworkLoopback Network = "loopback" // a private 127.0.0.1
	NetworkAllow    Network = "allow"    // a private 127.0.0.1, a proxy on it
	NetworkHost     Network = "host"     // the host's network
)

// Policy is what a sandbox may reach. All paths are host paths; each is found
// at the same path inside.
//
// Every field must have a row in the table of who enforces it, see
// TestEveryFieldIsEnforced in cmd/mcp-sandbox: a field that one of its users
// forgets is a promise that is not kept.
type Policy struct {
	// Workspace is an absolute, symlink-free path of a directory, readable and
	// writable at the same path inside.
	Workspace string
	// ReadOnly has commands read Workspace and change nothing in it.
	ReadOnly bool
	// WorkspaceFile, if set, is the server's own descriptor of Workspace: a
	// directory of another identity found under the name is refused.
	WorkspaceFile *os.File
	// WorkspaceName is "" or the absolute path by which the caller named Workspace.
	// The links on its way are found inside as they are outside, because build
	// directories and virtual environments hold that path. So are those on the way
	// of Read and Write.
	WorkspaceName string
	// WorkspaceAlias is "" or a second absolute path, of one name, at which commands
	// find the workspace where they see a file system of their own.
	WorkspaceAlias string
	// UID and GID run the commands. -1 derives them: the caller's own, or the
	// owner of the workspace under a root server. See AllowRoot for 0.
	UID, GID int
	// AllowRoot has the commands of a root server run as root where the workspace
	// is root's. Without it they run as an ordinary id, to which root's files in
	// the workspace and the grants belong inside, or not at all.
	AllowRoot bool
	// Home is "" for a private home that ends with the sandbox, else an absolute
	// path that is readable and writable inside (the workspace).
	Home string
	// Cache is a directory of the server's own that is ~/.cache of a private home,
	// and where the caches of package managers and compilers are; "" has them end
	// with the sandbox. It belongs to the user of the commands.
	Cache string
	// Path is the PATH whose toolchains are readable inside (the server's own).
	Path string
	// Read and Write are further absolute paths. A missing one is an error.
	Read, Write []string
	// DenyRead hides what lies in the workspace or a granted tree: the patterns of
	// package deny.
	DenyRead []string
	// Protect holds paths relative to the workspace that commands can neither
	// make, change nor swap.
	Protect []string
	// GitStage, if set, is a directory of the server that commands' changes of git
	// directories in the workspace go to, in place of those directories, where the
	// level can do that. A root server gives it to the identity of the commands.
	GitStage string
	// GitDirs are absolute paths of git directories that git in the workspace uses
	// and that have another name than .git there, or lie outside, where Read shows
	// them. They are staged as well.
	GitDirs []string
	// Stage, if set, is a directory of the server with two directories upper and
	// work: the workspace is an overlay of them, so that nothing in it changes, and
	// upper holds what the session changed. A level that cannot do that does not
	// start. A root server gives them to the identity of the commands.
	Stage string
	// StageProtect is what of Protect holds in a staged workspace, too: what lies
	// there is run by nothing outside.
	StageProtect []string
	// StateDirs are the server's own directories, never visible inside.
	StateDirs []string
	// TempDir is where a level without mounts of its own makes the session's
	// temporary directory and home; it must not exist and is removed at the end.
	// A caller that notes the name first can remove it after being killed. "" is
	// a fresh name below os.TempDir.
	TempDir string
	// GitConfig is the content of the session's global git configuration, and
	// GitIgnore of the ignore file that goes with it; "" for none. Commands may
	// change both, nobody else sees them.
	GitConfig, GitIgnore string
	// JavaTrust is the content of a key store with the certificates that Java programs
	// trust in place of their own, at most 1 MiB; "" for none.
	JavaTrust string
	Network   Network
	Limits    Limits
	// Level is the wished level, "" is LevelAuto. MinLevel refuses weaker ones,
	// "" accepts any that Level allows.
	Level, MinLevel Level
	Log             *slog.Logger
}

// Limits bound one sandbox. Zero means the default named at each field.
type Limits struct {
	Procs     int     // processes and threads of the session, 1024
	FileSize  int64   // bytes one file may grow to (RLIMIT_FSIZE), 4 GiB
	OpenFiles int     // descriptors of one process (RLIMIT_NOFILE), 4096
	Tmp       int64   // bytes of the private /tmp, /var/tmp, /run and home together, 1 GiB
	Shm       int64   // bytes of /dev/shm, 256 MiB
	Memory    int64   // bytes of all processes, where a cgroup is writable; default unlimited
	CPU       float64 // cores of all processes, where a cgroup is writable; default unlimited
	// BestEffort starts a session whose Memory, CPU or Procs cannot be enforced;
	// without it such a start is refused.
	BestEffort bool
}

// WithDefaults puts the defaults in place of zeros.
func (l Limits) WithDefaults() Limits {
	l.Procs = cmp.Or(l.Procs, 1024)
	l.FileSize = cmp.Or(l.FileSize, 4<<30)
	l.OpenFiles = cmp.Or(l.OpenFiles, 4096)
	l.Tmp = cmp.Or(l.Tmp, 1<<30)
	l.Shm = cmp.Or(l.Shm, 256<<20)
	return l
}
