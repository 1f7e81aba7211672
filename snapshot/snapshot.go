// Package snapshot is undo for whatever a shell did to a workspace: it stores
// the whole directory, tells what changed since, and brings any state back.
//
// Start at [New], which joins one workspace to one [Store]; the resulting
// [Repo] has Create, List, Diff, Restore, Delete, Prune, Check, Persist and
// Hydrate. [NewLocalStore] keeps the data in a private directory, package
// snapshot/s3store in object storage.
//
// Files are cut by content, named by SHA-256, compressed and stored once. A
// file whose device, inode, size, mtime and ctime are those of the newest
// snapshot is not read again. A snapshot holds files, directories (also empty
// ones), symbolic links as they are, hard links, holes, modes, mtimes and the
// user's extended attributes. It does not hold owners, setuid and setgid bits
// of files, FIFOs, sockets and devices; those last three, mounts and what may
// not be read are listed in [Info] and left alone by a restore.
//
// The workspace belongs to a process that may be hostile and running: the
// package reaches it only beneath the root's descriptor, never follows a link
// in it, and runs no program. It does not stop that
// process; a file written during a snapshot is stored as it was read.
package snapshot

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"mcp-sandbox/fsuser"

	"mcp-sandbox/sandbox"
)

// Options say what is snapshotted and how.
type Options struct {
	Root     string   // the workspace, if RootFile is nil
	RootFile *os.File // the workspace's open directory; stays the caller's to close
	// AsUser has a root server restore with the rights of the workspace's owner alone,
	// for a file system that nobody else can make files in, as of a staged workspace.
	AsUser bool

	// Ignore holds glob patterns (with **) of paths that are neither stored nor
	// touched by a restore; one without a slash matches the name at any depth.
	Ignore []string
	// Skip holds workspace paths treated the same, each with all below it.
	Skip []string

	// Ignored lists the paths that version control ignores, each with all below
	// it, for CreateRequest.WithoutIgnored; nil is none.
	Ignored func(ctx context.Context) ([]string, error)

	// Rules looks up what policy keeps from snapshots, once for each look at the
	// workspace; nil is nothing.
	Rules func(ctx context.Context) Rules
	// Refs is told, before a restore changes anything, which refs of a git
	// directory it moves, and says what to tell the user of it. It may keep what
	// they point to below refs/mcp-sandbox, which no restore removes; the objects
	// stay. nil: a git directory is restored like any other.
	Refs func(ctx context.Context, dir string, moves []RefMove) []string
	// StageDirs are directories outside of the workspace, best first, in which a
	// restore builds what it then swaps in: out of reach of the commands of the
	// session. One on another file system is passed over. Without one that
	// serves, the restore builds in a private directory in the workspace.
	StageDirs []string

	Parallel  int              // files read or written at once; 0: the CPUs, at most 4
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: none
	Retention Retention
	limits    limits
}

// Rules are asked about workspace paths.
type Rules interface {
	// Hides: the path is neither stored, compared nor touched by a restore. dev,
	// ino and links are 0 for a path that is in a snapshot.
	Hides(path string, dev, ino, links uint64) bool
	// Protects: a restore neither changes nor removes the path nor brings it back.
	Protects(path string) bool
}

// noRules is the empty policy.
type noRules struct{}

func (noRules) Hides(string, uint64, uint64, uint64) bool { return false }
func (noRules) Protects(string) bool                      { return false }

func (r *Repo) rules(ctx context.Context) Rules {
	if r.opt.Rules == nil {
		return noRules{}
	}
	return r.opt.Rules(ctx)
}

// Retention says which snapshots to drop after each Create. Zero values keep
// all. The newest snapshot, the newest baseline and what Pin names are always
// kept, and Count spares the newest 8 baselines.
type Retention struct {
	Count int           // keep this many; automatic ones go first, oldest first
	Age   time.Duration // drop older ones
	Bytes int64         // drop oldest ones until the store is this small
}

// limits bound what Hydrate takes from an archive; zero values are the
// defaults, negative ones lift a limit.
type limits struct {
	input   int64 // bytes, compressed, default 1 GiB
	bytes   int64 // unpacked, default 4 GiB
	members int   // default 100,000
}

// Repo is the snapshots of one workspace in one store. Its methods may be
// called from several goroutines; those that write wait for each other.
type Repo struct {
	store  Store
	chunks *chunkStore
	tree   *tree
	opt    Options
	own    *os.File // to close
	uid    int      // restored files' owner, or -1
	gid    int
	log    *slog.Logger

	write   chan struct{} // held by Create, Restore, Hydrate, Delete, Prune
	gc      sync.RWMutex  // held for writing by Prune only
	reading atomic.Int32  // operations that read chunks
	dropped int           // records deleted since the last collection; under write

	pinMu  sync.Mutex
	pinned map[string]bool
	held   string

	known known
}

// Pin keeps a snapshot from retention for as long as r is open.
func (r *Repo) Pin(id string) {
	r.pinMu.Lock()
	defer r.pinMu.Unlock()
	if r.pinned == nil {
		r.pinned = map[string]bool{}
	}
	r.pinned[id] = true
}

// Hold keeps one snapshot from retention in place of the one held before. It is the
// one from which the workspace would come back, which need not be the newest.
func (r *Repo) Hold(id string) {
	r.pinMu.Lock()
	defer r.pinMu.Unlock()
	r.held = id
}

// ignored is the set of Options.Ignored.
func (r *Repo) ignored(ctx context.Context) (map[string]struct{}, error) {
	if r.opt.Ignored == nil {
		return nil, nil
	}
	list, err := r.opt.Ignored(ctx)
	if err != nil {
		return nil, fail(err, "the ignored files could not be listed")
	}
	out := make(map[string]struct{}, len(list))
	for _, p := range list {
		out[p] = struct{}{}
	}
	return out, nil
}

// New opens the snapshots of a workspace. It refuses a local store that lies
// inside the workspace, where the sandboxed process could rewrite it.
func New(store Store, o Options) (*Repo, error) {
	if store == nil {
		return nil, invalid("no store was given; open one first")
	}
	r := &Repo{store: store, chunks: newChunkStore(store), opt: o, uid: -1, gid: -1, write: make(chan struct{}, 1)}
	if r.opt.Parallel <= 0 {
		r.opt.Parallel = min(runtime.NumCPU(), 4)
	}
	if r.opt.Now == nil {
		r.opt.Now = time.Now
	}
	if r.log = o.Log; r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for _, p := range o.Ignore {
		if !doublestar.ValidatePattern(p) || p == "" {
			return nil, invalid("the ignore pattern %s is not a valid glob; correct it", quote(p))
		}
	}
	for i, p := range o.Skip {
		c, err := cleanPath(p)
		if err != nil {
			return nil, err
		}
		if c == "" {
			return nil, invalid("the skip path %s is the whole workspace; name something in it", quote(p))
		}
		if i == 0 {
			r.opt.Skip = make([]string, len(o.Skip))
		}
		r.opt.Skip[i] = c
	}
	root := o.RootFile
	if root == nil {
		if o.Root == "" {
			return nil, invalid("no workspace was given; name its directory")
		}
		f, err := os.OpenFile(o.Root, os.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fail(err, "the workspace could not be opened")
		}
		root, r.own = f, f
	}
	if err := r.attach(root); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Repo) attach(root *os.File) error {
	t, err := newTree(root)
	if err != nil {
		return fail(err, "the workspace could not be opened")
	}
	r.tree = t
	var st unix.Stat_t
	if err := unix.Fstat(t.fd, &st); err != nil {
		return fail(err, "the workspace could not be opened")
	}
	if os.Geteuid() == 0 {
		// The owner of the workspace directory owns restored files, and its rights
		// count: what it may not read is neither stored nor compared, and a restore
		// changes nothing it may not change.
		r.uid, r.gid = int(st.Uid), int(st.Gid)
		if t.user, err = fsuser.New(r.uid, r.gid); err != nil {
			return fail(err, "the server cannot take the rights of the workspace's owner")
		}
	}
	if d, ok := r.store.(interface{ Dir() string }); ok {
		ws, err := root.Stat()
		if err != nil {
			return fail(err, "the workspace could not be opened")
		}
		dir, err := filepath.EvalSymlinks(d.Dir())
		if err != nil {
			return fail(err, "the snapshot directory could not be opened")
		}
		for {
			if fi, err := os.Stat(dir); err == nil && os.SameFile(fi, ws) {
				return invalid("the snapshot directory lies inside the workspace, where commands could change it; choose one outside")
			}
			up := filepath.Dir(dir)
			if up == dir {
				break
			}
			dir = up
		}
	}
	return nil
}

// Close releases what New opened. The store stays open.
func (r *Repo) Close() error {
	if r.own == nil {
		return nil
	}
	err := r.own.Close()
	r.own = nil
	return err
}

// List returns all snapshots, oldest first. One whose record is damaged is
// left out and logged.
func (r *Repo) List(ctx context.Context) ([]Info, error) {
	ids, err := r.ids(ctx)
	if err != nil {
		return nil, fail(err, "the snapshots could not be listed")
	}
	out := make([]Info, 0, len(ids))
	for _, id := range ids {
		info, err := r.info(ctx, id)
		if err != nil {
			if ctx.Err() != nil {
				return nil, fail(ctx.Err(), "the snapshots could not be listed")
			}
			r.log.Warn("a snapshot's record cannot be read", "snapshot", id, "cause", err)
			continue
		}
		out = append(out, info)
	}
	return out, nil
}

// Get returns one snapshot's Info; snapshot_not_found if there is none.
func (r *Repo) Get(ctx context.Context, id string) (Info, error) {
	return r.info(ctx, id)
}

// Delete drops a snapshot. Its space is given back by the next Prune.
func (r *Repo) Delete(ctx context.Context, id string) error {
	done, err := r.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if _, err := r.load(ctx, id); err != nil {
		// A damaged snapshot can still be dropped.
		if sandbox.CodeOf(err) != codeFailed || !errors.Is(err, errDamaged) {
			return err
		}
	}
	if err := r.store.Delete(ctx, recordPrefix+id); err != nil {
		return fail(err, "snapshot %s could not be deleted", id)
	}
	r.dropped++
	return nil
}

// begin takes the write lock of this Repo and a shared one of the store.
func (r *Repo) begin(ctx context.Context) (func(), error) {
	select {
	case r.write <- struct{}{}:
	case <-ctx.Done():
		return nil, fail(ctx.Err(), "another snapshot operation is running")
	}
	unlock, err := r.share(ctx)
	if err != nil {
		<-r.write
		return nil, err
	}
	return func() { unlock(); <-r.write }, nil
}

// share keeps chunks from being collected while they are read or built upon.
func (r *Repo) share(ctx context.Context) (func(), error) {
	r.gc.RLock()
	r.reading.Add(1)
	done := func() {
		if r.reading.Add(-1) == 0 {
			r.chunks.rest()
		}
		r.gc.RUnlock()
	}
	if l, ok := r.store.(Locker); ok {
		unlock, err := l.Lock(ctx, false)
		if err != nil {
			done()
			return nil, fail(err, "the snapshot store could not be locked")
		}
		free := done
		done = func() { unlock(); free() }
	}
	if err := r.chunks.refresh(ctx); err != nil {
		done()
		return nil, fail(err, "the snapshot store could not be read")
	}
	return done, nil
}

// skipped tells whether a path is left out by configuration.
func (r *Repo) skipped(path string) bool {
	for _, s := range r.opt.Skip {
		if within(path, s) {
			return true
		}
	}
	for _, p := range r.opt.Ignore {
		subject := path
		if !strings.Contains(p, "/") {
			_, subject = splitPath(path)
		}
		if ok, _ := doublestar.Match(strings.TrimPrefix(p, "/"), subject); ok {
			return true
		}
	}
	return false
}

// skippedDeep also looks at the directories above, for paths that come from a
// snapshot and not from a walk that would have stopped there.
func (r *Repo) skippedDeep(path string) bool {
	if len(r.opt.Skip) == 0 && len(r.opt.Ignore) == 0 {
		return false
	}
	for i := 0; i <= len(path); i++ {
		if (i == len(path) || path[i] == '/') && r.skipped(path[:i]) {
			return true
		}
	}
	return false
}

// cleanPath turns a caller's path into the form of entries: relative, without
// "." and empty parts; "" is the workspace. "..", NUL and absolute are refused.
func cleanPath(p string) (string, error) {
	if strings.HasPrefix(p, "/") || strings.IndexByte(p, 0) >= 0 || len(p) > maxPath {
		return "", invalid("the path %s is not one below the workspace; give a relative path", quote(p))
	}
	var parts []string
	for _, s := range strings.Split(p, "/") {
		switch s {
		case "", ".":
		case "..":
			return "", invalid("the path %s holds \"..\"; give the path below the workspace", quote(p))
		default:
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "/"), nil
}
