package gitstage

import (
	"bytes"
	"encoding/hex"
	"path"
	"slices"
	"strings"
)

// writeTree stores the entries of an index as trees, for a ref that keeps them.
// Of a path in conflict it takes the side of the session.
func (t tree) writeTree(entries []indexEntry, hexLen int) (string, error) {
	type node struct {
		mode uint32
		oid  string
	}
	dirs := map[string]map[string]node{"": {}}
	for _, e := range entries {
		if e.stage != 0 && e.stage != 2 {
			continue
		}
		for d := path.Dir(strings.TrimSuffix(e.path, "/")); d != "."; d = path.Dir(d) {
			if dirs[d] == nil {
				dirs[d] = map[string]node{}
			}
		}
		dir, base := path.Split(strings.TrimSuffix(e.path, "/"))
		dirs[strings.TrimSuffix(dir, "/")][base] = node{e.mode, e.oid}
	}
	var write func(dir string) (string, error)
	write = func(dir string) (string, error) {
		children := dirs[dir]
		for d := range dirs {
			if d != "" && path.Dir(d) == path.Clean(dir) || dir == "" && d != "" && !strings.Contains(d, "/") {
				oid, err := write(d)
				if err != nil {
					return "", err
				}
				children[path.Base(d)] = node{0o40000, oid}
			}
		}
		names := make([]string, 0, len(children))
		key := func(n string) string {
			if children[n].mode == 0o40000 {
				return n + "/"
			}
			return n
		}
		for n := range children {
			names = append(names, n)
		}
		slices.SortFunc(names, func(a, b string) int { return strings.Compare(key(a), key(b)) })
		var body bytes.Buffer
		for _, n := range names {
			raw, err := hex.DecodeString(children[n].oid)
			if err != nil {
				return "", err
			}
			body.WriteString(octal(children[n].mode) + " " + n + "\x00")
			body.Write(raw)
		}
		return t.writeObject("tree", body.Bytes(), hexLen)
	}
	return write("")
}

func octal(m uint32) string {
	var b []byte
	for ; m > 0; m >>= 3 {
		b = append(b, byte('0'+m&7))
	}
	slices.Reverse(b)
	return string(b)
}
