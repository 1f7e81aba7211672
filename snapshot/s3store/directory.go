package s3store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"mcp-sandbox/directory"
)

// Directory is a directory.Directory in the bucket of a Store, below its prefix. It
// relies on conditional writes: If-Match and If-None-Match of PutObject.
type Directory struct{ s *Store }

// Directory opens it; directory.Check says whether the store is fit for it.
func (s *Store) Directory() *Directory { return &Directory{s} }

func (d *Directory) name(key string) (string, error) {
	if !directory.ValidKey(key) {
		return "", fmt.Errorf("%q is not a key", key)
	}
	return d.s.name(key)
}

// Get gives the ETag as the version.
func (d *Directory) Get(ctx context.Context, key string) ([]byte, string, error) {
	name, err := d.name(key)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, "", err
	}
	core := minio.Core{Client: d.s.c}
	body, info, _, err := core.GetObject(ctx, d.s.bucket, name, minio.GetObjectOptions{})
	if err != nil {
		return nil, "", translate(ctx, err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, directory.MaxValue+1))
	if err != nil {
		return nil, "", translate(ctx, err)
	}
	return b, info.ETag, nil
}

// PutIf repeats a write that may not have arrived. When it had, the repeated one is
// refused for it; what is there then says so.
func (d *Directory) PutIf(ctx context.Context, key string, value []byte, version string) (string, error) {
	name, err := d.name(key)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return "", err
	}
	if len(value) > directory.MaxValue {
		return "", fmt.Errorf("the entry %s is longer than 1 MiB", key)
	}
	o := minio.PutObjectOptions{ContentType: "application/json", DisableMultipart: true}
	if version == "" {
		o.SetMatchETagExcept("*")
	} else {
		o.SetMatchETag(version)
	}
	for try := 1; ; try++ {
		info, err := d.s.up.PutObject(ctx, d.s.bucket, name, bytes.NewReader(value), int64(len(value)), o)
		switch {
		case err == nil:
			return info.ETag, nil
		case refused(ctx, err, version):
			if try > 1 {
				if now, etag, err := d.Get(ctx, key); err == nil && bytes.Equal(now, value) {
					return etag, nil
				}
			}
			return "", directory.ErrConflict
		case ctx.Err() != nil || try >= d.s.tries || !passing(err):
			return "", translate(ctx, err)
		}
		select {
		case <-time.After(firstDelay << min(try-1, 6)):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// refused: 412, 409 when two conditional writes meet, and 404 for If-Match on an
// object that is gone (Amazon S3, "Conditional writes").
func refused(ctx context.Context, err error, version string) bool {
	r := minio.ToErrorResponse(err)
	return r.StatusCode == http.StatusPreconditionFailed || r.StatusCode == http.StatusConflict ||
		version != "" && errors.Is(translate(ctx, err), fs.ErrNotExist)
}

func (d *Directory) List(ctx context.Context, prefix string) ([]directory.Entry, error) {
	list, err := d.s.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	out := make([]directory.Entry, len(list))
	for i, o := range list {
		out[i] = directory.Entry{Key: o.Key, Modified: o.Time}
	}
	return out, nil
}

func (d *Directory) Delete(ctx context.Context, key string) error {
	if _, err := d.name(key); err != nil {
		return err
	}
	return d.s.Delete(ctx, key)
}

var _ directory.Directory = (*Directory)(nil)
