package workspace

import (
	"context"
	"io"
	"os"
)

// MaxByteRange is the most that ReadBytes returns.
const MaxByteRange = 32 << 20

// ByteRequest is the input of ReadBytes.
type ByteRequest struct {
	Path string
	// Offset is the first byte, from 0; negative counts from the end.
	Offset int64
	// Limit is the number of bytes; 0 is as many as MaxByteRange allows.
	Limit int64
	// NoVersion leaves ByteResult.Version empty: it costs a look at the whole file.
	NoVersion bool
}

// ByteResult is a range of a file as it is on disk.
type ByteResult struct {
	Path    string // where the file is, links followed
	Kind    ContentKind
	MIME    string
	Size    int64 // of the whole file, in bytes
	Version string
	Offset  int64 // of Content, from the start of the file
	Content []byte
}

// ReadBytes reads bytes of a file, at most MaxByteRange. Past the end there are
// none.
func (f *FS) ReadBytes(ctx context.Context, req ByteRequest) (ByteResult, error) {
	if req.Limit < 0 {
		return ByteResult{}, fail(codeInvalid, "limit is %d; give a number of bytes above 0", req.Limit)
	}
	if req.Limit == 0 || req.Limit > MaxByteRange {
		req.Limit = MaxByteRange
	}
	var res ByteResult
	err := f.at(req.Path, walkOptions{follow: true}, func(p *resolved) error {
		file, err := openRegular(p)
		if err != nil {
			return err
		}
		defer file.Close()
		res, err = readBytes(ctx, file, req)
		res.Path = p.absolute()
		return err
	})
	return res, err
}

func readBytes(ctx context.Context, file *os.File, req ByteRequest) (ByteResult, error) {
	st, err := file.Stat()
	if err != nil {
		return ByteResult{}, unwrapPath(err)
	}
	res := ByteResult{Size: st.Size(), Offset: req.Offset}
	if res.Offset < 0 {
		res.Offset = max(0, res.Size+res.Offset)
	}
	// Ahead of the content, as in ReadFile.
	if !req.NoVersion {
		if res.Version, err = versionOf(ctx, file); err != nil {
			return res, err
		}
	}
	head := make([]byte, 4096)
	n, err := file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return res, unwrapPath(err)
	}
	res.Kind, res.MIME = sniff(head[:n], int64(n) >= res.Size)
	want := min(req.Limit, max(0, res.Size-res.Offset))
	if res.Size == 0 {
		want = req.Limit // a pseudo file, such as one of /proc, tells no size
	}
	b := make([]byte, 0, min(want, 1<<20))
	for int64(len(b)) < want {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		piece := min(want-int64(len(b)), 4<<20)
		if free := int64(cap(b) - len(b)); free < piece {
			b = append(make([]byte, 0, min(want, 2*int64(cap(b))+piece)), b...)
		}
		n, err := file.ReadAt(b[len(b):len(b)+int(piece)], res.Offset+int64(len(b)))
		b = b[:len(b)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return res, unwrapPath(err)
		}
	}
	res.Content = b
	return res, nil
}
