package gitstage

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"path"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// foreign says whether the repository may have an object that this session did not
// publish. It is true where that cannot be told, as with alternates.
func (r *repo) foreign(oid string) bool {
	if _, err := r.real.stat("objects/info/alternates"); err != unix.ENOENT && err != unix.ENOTDIR {
		return true
	}
	loose := "objects/" + oid[:2] + "/" + oid[2:]
	if _, err := r.real.stat(loose); err != unix.ENOENT && err != unix.ENOTDIR && !r.sent[loose] {
		return true
	}
	names, err := r.real.names("objects/pack")
	if err != nil {
		return err != unix.ENOENT
	}
	for _, n := range names {
		p := "objects/pack/" + n
		if path.Ext(n) != ".idx" || r.sent[strings.TrimSuffix(p, ".idx")+".pack"] {
			continue
		}
		f, err := r.real.file(p)
		if err == nil {
			var has bool
			has, err = indexHas(f, oid)
			f.Close()
			if err == nil && !has {
				continue
			}
		}
		return true
	}
	return false
}

// indexHas looks a name up in the index of a pack (gitformat-pack(5), version 2).
func indexHas(f *os.File, oid string) (bool, error) {
	want, err := hex.DecodeString(oid)
	if err != nil {
		return false, err
	}
	head := make([]byte, len(packIndexMagic)+256*4)
	if _, err := f.ReadAt(head, 0); err != nil {
		return false, err
	}
	if string(head[:8]) != packIndexMagic {
		return false, errObject
	}
	upTo := func(b int) int64 { return int64(binary.BigEndian.Uint32(head[8+4*b:])) }
	var low int64
	if want[0] > 0 {
		low = upTo(int(want[0]) - 1)
	}
	high := upTo(int(want[0]))
	if high < low {
		return false, errObject
	}
	names := io.NewSectionReader(f, int64(len(head))+low*int64(len(want)), (high-low)*int64(len(want)))
	name := make([]byte, len(want))
	n := sort.Search(int(high-low), func(i int) bool {
		if err == nil {
			_, err = names.ReadAt(name, int64(i*len(want)))
		}
		return err != nil || string(name) >= string(want)
	})
	if err != nil || n == int(high-low) {
		return false, err
	}
	_, err = names.ReadAt(name, int64(n*len(want)))
	return string(name) == string(want), err
}
