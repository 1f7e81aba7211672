// Package s3store keeps snapshots in S3-compatible object storage. It is apart
// from package snapshot so that only programs that want it carry the client.
//
// Start at [New]. It does not make buckets, and it has no lock: let one server
// use a prefix at a time, since collecting garbage while another writes
// can only rely on that garbage being old.
package s3store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"mcp-sandbox/snapshot"
)

// Options name the bucket and how to reach it.
type Options struct {
	Endpoint string // host or host:port
	Bucket   string
	Prefix   string // put before every key, without slashes at its ends
	Region   string // "" asks the server
	Insecure bool   // plain HTTP
	// AccessKey and SecretKey; both empty: from the environment (AWS_*), the
	// shared files or the machine's role, in the client's usual order.
	AccessKey, SecretKey string
	PathStyle            bool // bucket in the path and not in the host name
	// Retries of one request, 0: 5. They wait longer each time.
	Retries   int
	Transport http.RoundTripper // nil: the client's default, with answerWithin
}

// ParseURL reads s3://bucket/prefix?endpoint=host:port&region=...&insecure=1&path=1.
// Credentials are not taken from it: an address ends up in logs.
func ParseURL(s string) (Options, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "s3" || u.Host == "" {
		return Options{}, errors.New("the store address is not of the form s3://bucket/prefix?endpoint=host")
	}
	if u.User != nil {
		return Options{}, errors.New("the store address holds credentials; give them in the environment")
	}
	q := u.Query()
	o := Options{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"), Endpoint: "s3.amazonaws.com"}
	for k := range q {
		switch v := q.Get(k); k {
		case "endpoint":
			o.Endpoint = v
		case "region":
			o.Region = v
		case "insecure":
			o.Insecure = v == "1" || v == "true"
		case "path":
			o.PathStyle = v == "1" || v == "true"
		default:
			return Options{}, fmt.Errorf("the store address has the unknown setting %q", k)
		}
	}
	return o, nil
}

// Store is a snapshot.Store in a bucket.
type Store struct {
	c      *minio.Client
	up     *minio.Client // the same without repeating requests
	tries  int
	bucket string
	prefix string
}

const (
	defaultRetries = 5
	// fetchWindow is what one read brings: a round trip costs more than a pack.
	fetchWindow = 8 << 20
)

// answerWithin is how long a request that was sent waits for its answer to begin: a
// store that takes requests and answers none is away, and with all retries that is
// told before most clients give a call up. The client's own default is a minute.
var answerWithin = 10 * time.Second

// New opens a bucket, and fails if it is not there or may not be used.
func New(ctx context.Context, o Options) (*Store, error) {
	creds := credentials.NewStaticV4(o.AccessKey, o.SecretKey, "")
	if o.AccessKey == "" && o.SecretKey == "" {
		creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		})
	}
	if o.Transport == nil {
		tr, err := minio.DefaultTransport(!o.Insecure)
		if err != nil {
			return nil, fmt.Errorf("the certificates of this machine cannot be read: %w", err)
		}
		tr.ResponseHeaderTimeout = answerWithin
		o.Transport = tr
	}
	lookup := minio.BucketLookupAuto
	if o.PathStyle {
		lookup = minio.BucketLookupPath
	}
	retries := o.Retries
	if retries <= 0 {
		retries = defaultRetries
	}
	mo := minio.Options{
		Creds: creds, Secure: !o.Insecure, Region: o.Region, BucketLookup: lookup,
		MaxRetries: retries, Transport: o.Transport,
	}
	c, err := minio.New(o.Endpoint, &mo)
	if err != nil {
		return nil, fmt.Errorf("the object store address is not usable: %w", err)
	}
	once := mo
	once.MaxRetries = 1
	up, err := minio.New(o.Endpoint, &once)
	if err != nil {
		return nil, fmt.Errorf("the object store address is not usable: %w", err)
	}
	if err := s3utils.CheckValidBucketName(o.Bucket); err != nil {
		return nil, fmt.Errorf("no bucket can have that name: %w", err)
	}
	ok, err := c.BucketExists(ctx, o.Bucket)
	if err != nil {
		return nil, refusedAs(err)
	}
	if !ok {
		return nil, &RefusedError{What: "the bucket does not exist; make it first, or check its name"}
	}
	return &Store{c: c, up: up, tries: retries, bucket: o.Bucket, prefix: strings.Trim(o.Prefix, "/")}, nil
}

// Sub is the same bucket below a further prefix, over the same connections.
func (s *Store) Sub(prefix string) *Store {
	sub := *s
	sub.prefix = path.Join(s.prefix, prefix)
	return &sub
}

// Window tells package snapshot to read in large pieces.
func (s *Store) Window() int64 { return fetchWindow }

func (s *Store) name(key string) (string, error) {
	if !snapshot.ValidKey(key) {
		return "", fmt.Errorf("the object name %q is not allowed in a store", key)
	}
	return path.Join(s.prefix, key), nil
}

// translate makes the errors that package snapshot asks for.
func translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if r := minio.ToErrorResponse(err); r.Code == "NoSuchKey" || r.StatusCode == http.StatusNotFound && r.Code != "NoSuchBucket" {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// Put uploads in one request: the object appears whole or not at all.
//
// A failed upload is repeated here and not by the client: that would rewind r
// while the transport may still be reading it for the request that was
// answered early. Each try has a reader of its own instead.
func (s *Store) Put(ctx context.Context, key string, r io.ReadSeeker, size int64) error {
	name, err := s.name(key)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	at, ok := r.(io.ReaderAt)
	if !ok {
		b, err := io.ReadAll(io.LimitReader(r, size))
		if err != nil {
			return err
		}
		if int64(len(b)) < size {
			return io.ErrUnexpectedEOF
		}
		at = bytes.NewReader(b)
	} else if end, err := r.Seek(0, io.SeekEnd); err != nil || end < size {
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	for try := 1; ; try++ {
		_, err := s.up.PutObject(ctx, s.bucket, name, io.NewSectionReader(at, 0, size), size, minio.PutObjectOptions{
			ContentType: "application/octet-stream", DisableMultipart: true,
		})
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || try >= s.tries || !passing(err) {
			return translate(ctx, err)
		}
		select {
		case <-time.After(firstDelay << min(try-1, 6)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// firstDelay is the wait before the second try; it doubles from there.
const firstDelay = 100 * time.Millisecond

// passing tells whether trying again can help: what came from the network or
// from a server that is busy, not what the server refused.
func passing(err error) bool {
	switch r := minio.ToErrorResponse(err); {
	case r.StatusCode == 0:
		return true
	case r.StatusCode >= 500, r.StatusCode == http.StatusTooManyRequests, r.StatusCode == http.StatusRequestTimeout:
		return true
	default:
		return false
	}
}

func (s *Store) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	name, err := s.name(key)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if n == 0 {
		return io.NopCloser(strings.NewReader("")), nil
	}
	var o minio.GetObjectOptions
	switch {
	case n > 0:
		err = o.SetRange(off, off+n-1)
	case off > 0:
		err = o.SetRange(off, 0)
	}
	if err != nil {
		return nil, err
	}
	core := minio.Core{Client: s.c}
	body, _, _, err := core.GetObject(ctx, s.bucket, name, o)
	if err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return io.NopCloser(strings.NewReader("")), nil // at or past the end
		}
		return nil, translate(ctx, err)
	}
	return body, nil
}

func (s *Store) List(ctx context.Context, prefix string) ([]snapshot.Object, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the client's lister on an early return
	base := ""
	if s.prefix != "" {
		base = s.prefix + "/"
	}
	var out []snapshot.Object
	for o := range s.c.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: base + prefix, Recursive: true}) {
		if o.Err != nil {
			return nil, translate(ctx, o.Err)
		}
		key := strings.TrimPrefix(o.Key, base)
		if snapshot.ValidKey(key) {
			out = append(out, snapshot.Object{Key: key, Size: o.Size, Time: o.LastModified})
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out, nil
}

func (s *Store) Delete(ctx context.Context, key string) error {
	name, err := s.name(key)
	if err != nil {
		return err
	}
	err = translate(ctx, s.c.RemoveObject(ctx, s.bucket, name, minio.RemoveObjectOptions{}))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *Store) Has(ctx context.Context, key string) (bool, error) {
	name, err := s.name(key)
	if err != nil {
		return false, err
	}
	_, err = s.c.StatObject(ctx, s.bucket, name, minio.StatObjectOptions{})
	err = translate(ctx, err)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

var _ snapshot.Store = (*Store)(nil)
