package workspace

import (
	"context"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Limits of ApplyPatch.
const (
	maxPatchBytes = 16 << 20
	maxPatchFiles = 500
	// maxPatchTotal bounds the files held in memory together.
	maxPatchTotal = 128 << 20
)

// PatchedFile is one file a patch changed.
type PatchedFile struct {
	Op             string // add, update, delete, move
	Path           string
	MovedTo        string
	Added, Removed int // lines
	// Places are the lines of the file as it is now that hunks changed.
	Places []LineRange
}

// PatchResult lists what a patch did, in the order of the patch.
type PatchResult struct {
	Files []PatchedFile
}

// patchFile is a file as the patch has changed it so far.
type patchFile struct {
	given  string
	follow bool
	was    *unix.Stat_t // nil when the file did not exist
	kind   Kind
	doc    *document
	found  *document // what the name had, when it was read; doc may come from elsewhere
	text   string
	exists bool
	parsed bool // doc is decoded text
	mode   *bool
	source *patchFile // where it was moved from
	// movedTo is the file that this one becomes.
	movedTo *resolved
	place   *resolved
	staged  *staged
	// displaced is the file that was there, until the patch is done.
	displaced *displaced
}

// patcher holds the files of one patch by their real paths.
type patcher struct {
	fs    *FS
	files map[string]*patchFile
	order []*patchFile
	total int64
}

// ApplyPatch applies a patch in the begin/end-marker grammar or a unified diff.
// All paths and all hunks are checked and all new contents written next to the
// old ones before the first file changes; when a later step fails the earlier
// ones are taken back. A kill in the middle of the final renames can leave some
// files changed, each of them whole. Adding or moving onto an existing file is
// refused.
func (f *FS) ApplyPatch(ctx context.Context, patch string) (PatchResult, error) {
	if len(patch) > maxPatchBytes {
		return PatchResult{}, fail(codeTooLarge, "the patch is %d bytes long and at most %d are taken; split it", len(patch), maxPatchBytes)
	}
	if strings.ContainsRune(patch, 0) {
		return PatchResult{}, fail(codeInvalid, "the patch holds a NUL byte; remove it")
	}
	ops, err := parsePatch(patch)
	if err != nil {
		return PatchResult{}, err
	}
	if len(ops) > maxPatchFiles {
		return PatchResult{}, fail(codeTooLarge, "the patch changes %d files and at most %d are taken; split it", len(ops), maxPatchFiles)
	}
	leave, err := f.enter()
	if err != nil {
		return PatchResult{}, err
	}
	defer leave()
	// Another call may have changed a file since it was read: the patch is then
	// applied to what is there now. A program that goes on writing is a conflict.
	for try := 0; ; try++ {
		res, err := f.applyOnce(ctx, ops)
		if sandbox.CodeOf(err) != codeConflict || try == maxSwaps {
			return res, err
		}
	}
}

func (f *FS) applyOnce(ctx context.Context, ops []patchOp) (PatchResult, error) {
	t := &patcher{fs: f, files: map[string]*patchFile{}}
	var res PatchResult
	for _, op := range ops {
		done, err := t.apply(ctx, op)
		if err != nil {
			return PatchResult{}, err
		}
		res.Files = append(res.Files, done)
	}
	if err := t.commit(ctx); err != nil {
		return PatchResult{}, err
	}
	return res, nil
}

// file finds the state of a file, looking at the disk the first time.
func (t *patcher) file(given string, follow bool) (*patchFile, string, error) {
	given = strings.ReplaceAll(given, "\\", "/")
	p, err := t.fs.walk(given, walkOptions{follow: follow, write: true, mayMiss: true})
	if err != nil {
		return nil, "", err
	}
	defer p.close()
	if p.isRoot() {
		return nil, "", fail(codeIsDirectory, "%s is a directory; name a file", quote(given))
	}
	if p.root.leaf != "" {
		return nil, "", fail(codeInvalid, "%s is granted as a single file; change it with edit_file", quote(given))
	}
	whole := *p
	whole.owned, whole.missing = false, nil
	whole.comps = append(append([]string(nil), p.comps...), p.missing...)
	if p.missing != nil {
		// The walk asked policy about the first missing directory only.
		whole.missing = p.missing
		if err := t.fs.permit(&whole); err != nil {
			return nil, "", err
		}
	}
	key, shown := whole.absolute(), whole.display()
	if s := t.files[key]; s != nil {
		return s, shown, nil
	}
	s := &patchFile{given: given, follow: follow}
	if p.missing == nil {
		st, err := p.stat()
		if err != nil && err != unix.ENOENT {
			return nil, "", fromErrno(err, given)
		}
		if err == nil {
			s.was, s.kind, s.exists = st, kindOf(st), true
		}
	}
	t.files[key] = s
	t.order = append(t.order, s)
	return s, shown, nil
}

// load brings the content of an existing file into memory.
func (t *patcher) load(ctx context.Context, s *patchFile, text bool) error {
	if s.doc == nil {
		err := t.fs.atEntered(s.given, walkOptions{follow: s.follow, write: true}, func(p *resolved) error {
			raw, d, err := loadRaw(ctx, p)
			if err != nil {
				return err
			}
			if t.total += int64(len(raw)); t.total > maxPatchTotal {
				return fail(codeTooLarge, "the files of the patch are more than %d bytes together; split it", maxPatchTotal)
			}
			s.doc, s.found, s.text, s.was = d, d, d.text, &d.st
			return nil
		})
		if err != nil {
			return err
		}
	}
	if !text || s.parsed {
		return nil
	}
	if err := s.doc.parse([]byte(s.text), s.given); err != nil {
		return err
	}
	s.text, s.parsed = s.doc.text, true
	return nil
}

func (t *patcher) apply(ctx context.Context, op patchOp) (PatchedFile, error) {
	if err := ctx.Err(); err != nil {
		return PatchedFile{}, fromErrno(err, op.path)
	}
	if op.prefixed {
		t.stripPrefixes(&op)
	}
	if op.moveTo != "" && path.Clean(op.path) == path.Clean(op.moveTo) {
		op.moveTo = "" // a move onto itself does nothing
	}
	s, shown, err := t.file(op.path, op.op == "update" && op.moveTo == "")
	if err != nil {
		return PatchedFile{}, err
	}
	done := PatchedFile{Op: op.op, Path: shown}
	switch {
	case op.op == "add" && s.exists:
		return done, fail(codeExists, "%s already exists; update it instead of adding it", quote(op.path))
	case op.op != "add" && !s.exists:
		return done, fail(codeNotFound, "%s does not exist; check the path with ls or add the file", quote(op.path))
	}
	switch op.op {
	case "add":
		s.exists, s.text, s.parsed = true, op.content, true
		s.doc = &document{enc: UTF8}
		s.mode = op.executable
		done.Added = strings.Count(op.content, "\n")
		if op.content != "" && !strings.HasSuffix(op.content, "\n") {
			done.Added++
		}
		return done, nil
	case "delete":
		if s.kind == KindDirectory {
			return done, fail(codeIsDirectory, "%s is a directory; remove it with rm", quote(op.path))
		}
		if s.kind == KindFile && s.was.Size <= maxEditBytes {
			if err := t.load(ctx, s, false); err == nil {
				done.Removed = len(cutLines(s.text))
			}
		}
		s.exists = false
		return done, nil
	}
	if err := t.load(ctx, s, len(op.hunks) > 0); err != nil {
		return done, err
	}
	if len(op.hunks) > 0 && s.was != nil {
		if err := writable(s.was, op.path, false); err != nil {
			return done, fail(codePermission, "%s is read-only (mode %04o); change it with edit_file and force", quote(op.path), uint32(s.was.Mode)&0o7777)
		}
	}
	if len(op.hunks) > 0 {
		p, err := applyHunks(s.text, op.path, op.hunks)
		if err != nil {
			return done, err
		}
		s.text, done.Added, done.Removed, done.Places = p.text, p.added, p.removed, p.places
		if len(s.text) > maxEditBytes {
			return done, fail(codeTooLarge, "the patched %s would be larger than %d bytes; use a command such as sed", quote(op.path), maxEditBytes)
		}
	}
	if op.executable != nil {
		s.mode = op.executable
	}
	if op.moveTo == "" {
		return done, nil
	}
	to, toShown, err := t.file(op.moveTo, false)
	if err != nil {
		return done, err
	}
	if to == s {
		return done, nil // the same file by another spelling
	}
	if to.exists {
		return done, fail(codeExists, "%s already exists; choose another name for the moved file", quote(op.moveTo))
	}
	done.Op, done.MovedTo = "move", toShown
	to.exists, to.text, to.doc, to.parsed, to.mode = true, s.text, s.doc, s.parsed, s.mode
	to.source = s
	if s.was == nil {
		to.source = s.source // moved twice, or added by this patch
	}
	s.exists = false
	return done, nil
}

// stripPrefixes removes the a/ and b/ that diffs put before names, unless they
// are real directories.
func (t *patcher) stripPrefixes(op *patchOp) {
	for _, name := range []*string{&op.path, &op.moveTo} {
		for _, prefix := range []string{"a/", "b/"} {
			rest, ok := strings.CutPrefix(*name, prefix)
			if !ok || rest == "" {
				continue
			}
			p, err := t.fs.walk(strings.TrimSuffix(prefix, "/"), walkOptions{follow: true})
			if err == nil {
				_, err = p.stat()
				p.close()
			}
			if err != nil {
				*name = rest
			}
			break
		}
	}
}
