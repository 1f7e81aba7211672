package manifest

import (
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxEnvFile bounds a value taken from a file, in bytes.
const maxEnvFile = 64 << 10

// Environ takes the values from where they are, all at the same time. One
// final newline of a file is not part of the value. secrets are those that logs
// must not show. Codes: not_found, invalid_argument, cancelled.
func (m *Manifest) Environ(ctx context.Context) (env, secrets []string, err error) {
	if m == nil || len(m.Environment) == 0 {
		return nil, nil, nil
	}
	names := slices.Sorted(maps.Keys(m.Environment))
	values, errs := make([]string, len(names)), make([]error, len(names))
	done := make(chan int, len(names))
	for i, name := range names {
		go func() {
			values[i], errs[i] = m.environValue(name)
			done <- i
		}()
	}
	for range names {
		select {
		case i := <-done:
			if errs[i] != nil {
				return nil, nil, errs[i]
			}
		case <-ctx.Done():
			// A file on a dead network mount can hang; the call must not.
			return nil, nil, errorf("cancelled", ctx.Err(), "the call was cancelled while the environment was read; call again")
		}
	}
	for i, name := range names {
		env = append(env, name+"="+values[i])
		if v := m.Environment[name]; v.Value == nil || v.Ephemeral {
			secrets = append(secrets, values[i])
		}
	}
	return env, secrets, nil
}

func (m *Manifest) environValue(name string) (string, error) {
	v := m.Environment[name]
	switch {
	case v.Value != nil:
		return *v.Value, nil
	case v.FromEnv != "":
		text, ok := os.LookupEnv(v.FromEnv)
		if !ok {
			return "", errorf("not_found", nil, "the environment value of %q comes from %q, which the server's environment does not have; set it", name, v.FromEnv)
		}
		return text, nil
	}
	p := v.FromFile
	if !filepath.IsAbs(p) {
		p = filepath.Join(m.base, p)
	}
	f, err := os.Open(p)
	if err != nil {
		return "", errorf("not_found", err, "the environment value of %q comes from a file that cannot be read; check from_file", name)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return "", errorf("invalid_argument", err, "the environment value of %q does not come from a regular file; check from_file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err != nil || len(b) > maxEnvFile || bytes.IndexByte(b, 0) >= 0 {
		return "", errorf("invalid_argument", err, "the file of the environment value %q is unusable; it must be readable, at most %d bytes and free of NUL", name, maxEnvFile)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}
