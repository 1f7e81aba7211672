package tokens

// Counter counts a stream.
type Counter struct {
	e   *Encoding
	buf []byte
}

// NewCounter ...
func (e *Encoding) NewCounter() *Counter { return &Counter{e: e} }

func (c *Counter) Write(p []byte) (int, error) { c.buf = append(c.buf, p...); return len(p), nil }

// Total ...
func (c *Counter) Total() int { return c.e.CountBytes(c.buf) }
