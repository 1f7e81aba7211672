package workspace

import "context"

// Stat describes what a path leads to, links followed. Codes: not_found,
// not_a_directory, permission_denied, path_outside_workspace.
func (f *FS) Stat(ctx context.Context, path string) (Entry, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, err
	}
	var e Entry
	err := f.at(path, walkOptions{follow: true}, func(p *resolved) error {
		st, err := p.stat()
		if err != nil {
			return err
		}
		e = entryOf(p.fd, p.name, p.display(), st)
		return nil
	})
	return e, err
}
