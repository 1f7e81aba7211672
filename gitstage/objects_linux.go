package gitstage

import (
	"bufio"
	"cmp"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errObject is a file that is not what its name says.
var errObject = errors.New("not the object its name says")

// publishObjects publishes those that the session made.
func (r *repo) publishObjects(upper objectTree) (published int, err error) {
	if r.sent == nil {
		r.sent = map[string]bool{}
	}
	return publishObjects(upper, r.real, r.seen, r.sent)
}

// publishObjects puts new objects into the real directory. Those that are there
// stay as they are, and none is ever removed. seen holds what was looked at
// before, by path; what is published here is noted in sent.
func publishObjects(upper objectTree, real tree, seen map[string]sig, sent map[string]bool) (published int, err error) {
	dirs, err := upper.names("objects")
	if err != nil {
		return 0, nil // none was written
	}
	slices.Sort(dirs)
	top, err := upper.t.sub(upper.path("objects"))
	if err != nil {
		return 0, nil
	}
	defer top.close()
	for _, d := range dirs {
		dir := "objects/" + d
		if len(d) != 2 && d != "pack" {
			continue
		}
		e, err := top.stat(d)
		// A new name changes the time of its directory.
		if err != nil || e.kind != kindDir || seen[dir] == e.sig {
			continue
		}
		n, whole, err := publishDir(upper, real, dir, seen, sent)
		published += n
		if err != nil {
			return published, err
		}
		if whole {
			seen[dir] = e.sig
		}
	}
	return published, nil
}

func publishDir(upper objectTree, real tree, dir string, seen map[string]sig, sent map[string]bool) (published int, whole bool, err error) {
	names, err := upper.names(dir)
	if err != nil {
		return 0, false, nil
	}
	// The index of a pack comes last: with it git finds the rest.
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(boolInt(path.Ext(a) == ".idx")-boolInt(path.Ext(b) == ".idx"), strings.Compare(a, b))
	})
	whole = true
	for _, n := range names {
		p := dir + "/" + n
		c := classify(p)
		if c != classLoose && c != classPack {
			continue
		}
		e, err := upper.stat(p)
		if err != nil || e.kind != kindFile || seen[p] == e.sig {
			continue
		}
		if _, err := real.stat(p); err == nil {
			seen[p] = e.sig
			continue
		}
		switch err := publishObject(upper, real, p); {
		case err == nil:
			published++
			seen[p], sent[p] = e.sig, true
		case err == unix.EEXIST:
			seen[p] = e.sig
		case errors.Is(err, errObject) && path.Ext(p) == ".idx" && seen[strings.TrimSuffix(p, ".idx")+".pack"] != (sig{}):
			seen[p] = e.sig // the pack is whole, and no pack
		case errors.Is(err, errObject):
			whole = false // half written, or not an object
		default:
			return published, false, fmt.Errorf("publish an object: %w", err)
		}
	}
	return published, whole, nil
}

// objectTree is a tree by the paths of a git directory. at is where the objects are
// in it, "objects" except in the stage of a bare repository, which has nothing else.
type objectTree struct {
	t  tree
	at string
}

func (o objectTree) path(p string) string { return o.at + strings.TrimPrefix(p, "objects") }

func (o objectTree) names(p string) ([]string, error) { return o.t.names(o.path(p)) }

func (o objectTree) stat(p string) (entry, error) { return o.t.stat(o.path(p)) }

func (o objectTree) file(p string) (*os.File, error) { return o.t.file(o.path(p)) }

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// publishObject copies one file whose content is checked against its name on the
// way, so that what git reads outside was not written half.
func publishObject(upper objectTree, real tree, p string) error {
	if path.Ext(p) == ".idx" {
		return publishPackIndex(real, p)
	}
	f, err := upper.file(p)
	if err == unix.ENOENT || err == unix.EINVAL {
		return errObject
	}
	if err != nil {
		return err
	}
	defer f.Close()
	check := checkPackFile
	if classify(p) == classLoose {
		check = checkLoose
	}
	return real.create(p, 0o444, false, func(w io.Writer) error { return check(f, w, p) })
}

// publishPackIndex makes the index of a pack that has been published.
func publishPackIndex(real tree, p string) error {
	f, err := real.file(strings.TrimSuffix(p, ".idx") + ".pack")
	if err != nil {
		return errObject
	}
	defer f.Close()
	index, err := packIndex(f, len(strings.TrimSuffix(strings.TrimPrefix(path.Base(p), "pack-"), ".idx")))
	if err != nil {
		return err
	}
	return real.create(p, 0o444, false, func(w io.Writer) error { _, err := w.Write(index); return err })
}

// checkLoose copies a loose object.
func checkLoose(f *os.File, w io.Writer, p string) error {
	name := path.Base(path.Dir(p)) + path.Base(p)
	sum := newHash(len(name))
	z, err := zlib.NewReader(io.TeeReader(bufio.NewReader(f), w))
	if err != nil {
		return errObject
	}
	if _, err := io.Copy(sum, z); err != nil {
		return errObject
	}
	if hex.EncodeToString(sum.Sum(nil)) != name {
		return errObject
	}
	return nil
}

// checkPackFile copies a pack or one of its indexes, whose end is the hash of all
// before it.
func checkPackFile(f *os.File, w io.Writer, p string) error {
	name := strings.TrimPrefix(strings.TrimSuffix(path.Base(p), path.Ext(p)), "pack-")
	sum := newHash(len(name))
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	body := fi.Size() - int64(sum.Size())
	if body < 0 {
		return errObject
	}
	if _, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(f, body)); err != nil {
		return err
	}
	end := make([]byte, sum.Size())
	if _, err := io.ReadFull(f, end); err != nil || string(end) != string(sum.Sum(nil)) {
		return errObject
	}
	_, err = w.Write(end)
	return err
}

// maxCommit bounds a commit that is read to find its parents, in bytes.
const maxCommit = 256 << 10

// looseObject reads a loose object, without its header.
func (t tree) looseObject(oid, kind string) (string, bool) {
	if !isOID(oid) {
		return "", false
	}
	f, err := t.file("objects/" + oid[:2] + "/" + oid[2:])
	if err != nil {
		return "", false
	}
	defer f.Close()
	z, err := zlib.NewReader(bufio.NewReader(f))
	if err != nil {
		return "", false
	}
	b, err := io.ReadAll(io.LimitReader(z, maxCommit))
	header, body, ok := strings.Cut(string(b), "\x00")
	return body, err == nil && ok && strings.HasPrefix(header, kind+" ")
}

// leadsTo says whether old is surely among the ancestors of a commit, as far as
// loose objects tell: what was just committed is loose.
func (t tree) leadsTo(commit, old string) bool {
	queue, seen := []string{commit}, map[string]bool{}
	for len(queue) > 0 && len(seen) < 2000 {
		c := queue[0]
		queue = queue[1:]
		if c == old {
			return true
		}
		if seen[c] {
			continue
		}
		seen[c] = true
		body, ok := t.looseObject(c, "commit")
		if !ok {
			continue
		}
		for line := range strings.SplitSeq(body, "\n") {
			if line == "" {
				break
			}
			if parent, ok := strings.CutPrefix(line, "parent "); ok {
				queue = append(queue, parent)
			}
		}
	}
	return false
}

// writeObject makes an object of this package's own.
func (t tree) writeObject(kind string, body []byte, hexLen int) (string, error) {
	header := kind + " " + strconv.Itoa(len(body)) + "\x00"
	sum := newHash(hexLen)
	sum.Write([]byte(header))
	sum.Write(body)
	oid := hex.EncodeToString(sum.Sum(nil))
	err := t.create("objects/"+oid[:2]+"/"+oid[2:], 0o444, false, func(w io.Writer) error {
		z := zlib.NewWriter(w)
		_, err := z.Write([]byte(header))
		if err == nil {
			_, err = z.Write(body)
		}
		return errors.Join(err, z.Close())
	})
	if err == unix.EEXIST {
		err = nil
	}
	return oid, err
}
