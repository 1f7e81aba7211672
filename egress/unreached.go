package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// Unreached is an allowed host that this proxy could not connect to, or that gave no
// answer. All fields are safe to print.
type Unreached struct {
	Host   string
	Port   int
	Reason string // a clause for people, "unknown reason" where nothing is known
	Time   time.Time
	// From is the client's end of the connection.
	From net.Addr

	answer bool // it was reached, and only its answer did not come
}

// String is one line: host:port and the reason.
func (u Unreached) String() string {
	d := Denial{Host: u.Host, Port: u.Port}
	if u.answer {
		return d.where() + " is allowed, and the server got no usable answer from it: " + u.Reason
	}
	return d.where() + " is allowed, and the server could not reach it: " + u.Reason
}

// unreached reports that an allowed endpoint was not reached. It is known before the
// client hears of it.
func (p *Proxy) unreached(from net.Addr, e endpoint, reason string, answer bool) {
	if p.ctx.Err() != nil {
		return // the session's end is the reason
	}
	u := Unreached{From: from, Host: e.host(), Port: int(e.port), Reason: reason, Time: time.Now(), answer: answer}
	p.o.Log.Info("egress: unreached", "host", u.Host, "port", u.Port, "reason", u.Reason)
	if p.o.OnUnreached != nil {
		p.o.OnUnreached(u)
	}
}

const noAddress = "its name has no address"

// unreachedReason is the system's word for a failed look-up or connection, without
// this host's addresses.
func unreachedReason(err error) string {
	var no syscall.Errno
	var dns *net.DNSError
	var none *net.AddrError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host name"
	case errors.As(err, &dns) && dns.IsTimeout:
		return "the look-up of its name timed out"
	case errors.As(err, &dns):
		return "the look-up of its name failed"
	case errors.As(err, &none): // what the resolver gives for an empty answer
		return noAddress
	case errors.As(err, &no):
		return no.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	}
	return "unknown reason"
}

// answerReason says why no answer came.
func answerReason(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the connection ended"
	}
	return unreachedReason(err)
}
