package snapshot

// join meets two sorted streams of entries. The left one is pushed, since it
// may come from a walk, the right one is pulled; each is called once a path
// with the sides that have it.
type join struct {
	right *manifestReader
	each  func(left, right *entry) error
	next  *entry
	begun bool
}

func (j *join) pull() (err error) {
	j.begun = true
	j.next, err = j.right.next()
	return err
}

func (j *join) left(e *entry) error {
	if !j.begun {
		if err := j.pull(); err != nil {
			return err
		}
	}
	for j.next != nil {
		c := comparePaths(j.next.path, e.path)
		if c > 0 {
			break
		}
		r := j.next
		if err := j.pull(); err != nil {
			return err
		}
		if c == 0 {
			return j.each(e, r)
		}
		if err := j.each(nil, r); err != nil {
			return err
		}
	}
	return j.each(e, nil)
}

// finish hands out what is left on the right.
func (j *join) finish() error {
	if !j.begun {
		if err := j.pull(); err != nil {
			return err
		}
	}
	for j.next != nil {
		r := j.next
		if err := j.pull(); err != nil {
			return err
		}
		if err := j.each(nil, r); err != nil {
			return err
		}
	}
	return nil
}

// all runs a join of two manifests.
func (j *join) all(left *manifestReader) error {
	for {
		e, err := left.next()
		if err != nil {
			return err
		}
		if e == nil {
			return j.finish()
		}
		if err := j.left(e); err != nil {
			return err
		}
	}
}
