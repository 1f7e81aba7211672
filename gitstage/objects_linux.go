package gitstage

import (
	"bufio"
	"cmp"
	"compress/zlib"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
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

// publishObjects puts new objects into the real directory. Those that are there
// stay as they are, and none is ever removed. seen holds what was looked at
// before, by path.
func publishObjects(upper, real tree, seen map[string]sig) (published int, err error) {
	dirs, err := upper.names("objects")
	if err != nil {
		return 0, nil // none was written
	}
	slices.Sort(dirs)
	for _, d := range dirs {
		dir := "objects/" + d
		if len(d) != 2 && d != "pack" {
			continue
		}
		e, err := upper.stat(dir)
		// A new name changes the time of its directory.
		if err != nil || e.kind != kindDir || seen[dir] == e.sig {
			continue
		}
		n, whole, err := publishDir(upper, real, dir, seen)
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

func publishDir(upper, real tree, dir string, seen map[string]sig) (published int, whole bool, err error) {
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
			seen[p] = e.sig
		case err == unix.EEXIST:
			seen[p] = e.sig
		case errors.Is(err, errObject), err == unix.ENOENT, err == unix.EINVAL:
			whole = false // half written, or not an object
		default:
			return published, false, fmt.Errorf("publish an object: %w", err)
		}
	}
	return published, whole, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// publishObject copies one file whose content is checked against its name on the
// way, so that what git reads outside was not written half.
func publishObject(upper, real tree, p string) error {
	f, err := upper.file(p)
	if err != nil {
		return err
	}
	defer f.Close()
	check := checkPackFile
	if classify(p) == classLoose {
		check = checkLoose
	} else if path.Ext(p) == ".idx" {
		if _, err := real.stat(strings.TrimSuffix(p, ".idx") + ".pack"); err != nil {
			return errObject
		}
	}
	return real.create(p, 0o444, false, func(w io.Writer) error { return check(f, w, p) })
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

func newHash(hexLen int) hash.Hash {
	if hexLen == 64 {
		return sha256.New()
	}
	return sha1.New()
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
