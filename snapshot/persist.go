package snapshot

import (
	"archive/tar"
	"bufio"
	"context"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Format is an archive format of Persist.
type Format string

const (
	Tar    Format = "tar"
	TarZst Format = "tar.zst"
)

const paxXattr = "SCHILY.xattr." // as GNU tar and libarchive name them

// Persist writes a snapshot as a plain pax archive that any tar can read:
// members ".", "./a/", "./a/b" in walk order, with times in nanoseconds,
// attributes, symbolic and hard links. Holes are written out as zeros. Nothing
// of the workspace is read.
func (r *Repo) Persist(ctx context.Context, id string, w io.Writer, format Format) error {
	if format != Tar && format != TarZst {
		return invalid("the archive format %s is not known; use tar or tar.zst", quote(string(format)))
	}
	done, err := r.share(ctx)
	if err != nil {
		return err
	}
	defer done()
	m, err := r.manifest(ctx, id)
	if err != nil {
		return err
	}
	defer m.close()
	err = r.persist(ctx, m, w, format)
	if err != nil {
		return fail(err, "snapshot %s could not be written as an archive", id)
	}
	return nil
}

func (r *Repo) persist(ctx context.Context, m *manifestReader, w io.Writer, format Format) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var pack io.Writer = out
	var enc *zstd.Encoder
	if format == TarZst {
		var err error
		if enc, err = zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(4<<20), zstd.WithLowerEncoderMem(true)); err != nil {
			return err
		}
		defer enc.Close()
		pack = enc
	}
	tw := tar.NewWriter(pack)
	pr, err := r.chunks.open(ctx, nil, nil)
	if err != nil {
		return err
	}
	defer pr.Close()
	for {
		e, err := m.next()
		if err != nil {
			return err
		}
		if e == nil {
			break
		}
		h := headerOf(e)
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		pr.pieces = e.pieces
		if _, err := io.Copy(tw, pr); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	if enc != nil {
		if err := enc.Close(); err != nil {
			return err
		}
	}
	return out.Flush()
}

func headerOf(e *entry) *tar.Header {
	h := &tar.Header{Format: tar.FormatPAX, Name: "./" + e.path, Mode: int64(e.mode), ModTime: time.Unix(0, e.mtime)}
	switch {
	case e.kind == kindDir:
		h.Typeflag = tar.TypeDir
		if e.path != "" {
			h.Name += "/"
		}
	case e.kind == kindLink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.target
	case e.hard != "":
		h.Typeflag, h.Linkname = tar.TypeLink, "./"+e.hard
	default:
		h.Typeflag, h.Size = tar.TypeReg, e.size
	}
	for _, x := range e.xattrs {
		// A pax record has no way to hold these in its name; such an attribute
		// is rare enough to be left out of archives.
		if strings.ContainsAny(x.name, "=\x00") {
			continue
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+x.name] = x.value
	}
	return h
}
