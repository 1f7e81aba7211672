package egress

import (
	"encoding/binary"
	"io"

	"golang.org/x/crypto/cryptobyte"
)

// TLS record and extension numbers (RFC 8446 sections 5.1 and 4.2, RFC 6066, RFC
// 9849).
const (
	recordAlert     = 21
	recordHandshake = 22
	typeClientHello = 1
	extServerName   = 0
	extESNI         = 0xffce // the draft before ECH
	extECH          = 0xfe0d
	maxRecord       = 1 << 14
	maxHello        = 1 << 16
)

// clientHelloError says why a client's beginning is refused.
type clientHelloError string

func (f clientHelloError) Error() string { return string(f) }

type clientHello struct {
	serverName string // "" where there is none
	encrypted  bool   // holds a second, hidden hello
}

// check holds the hello to the endpoint the proxy was asked for.
//
// A hello without a server name is refused for a named host: the server would
// choose a default site, and every client in use sends one. One with Encrypted
// Client Hello is refused too: what it hides is a second server name, and a
// grease extension cannot be told from a real one, by design.
func (h clientHello) check(e endpoint) error {
	switch {
	case h.encrypted:
		return clientHelloError("its TLS hides the server name (ECH), which the proxy cannot check; switch it off in the client")
	case h.serverName == "" && e.name == "":
		return nil // server names are never addresses (RFC 6066 section 3)
	case h.serverName == "":
		return clientHelloError("its TLS has no server name")
	case lowerASCII(h.serverName) != e.host():
		return clientHelloError("its TLS asks for another server name, " + quoteHost(h.serverName))
	}
	return nil
}

// readClientHello reads records up to the end of one ClientHello and gives their
// bytes as they came. A hello may be spread over records in any way; nothing may
// follow it in its last one.
func readClientHello(r io.Reader) ([]byte, clientHello, error) {
	var raw, msg []byte
	for {
		start := len(raw)
		raw = append(raw, make([]byte, 5)...)
		if _, err := io.ReadFull(r, raw[start:start+1]); err != nil {
			return nil, clientHello{}, err
		}
		// Decided on the first byte: a client that waits for the server to speak
		// first must not hang.
		if raw[start] != recordHandshake {
			return nil, clientHello{}, clientHelloError("it does not begin with TLS, which port 443 is for")
		}
		if _, err := io.ReadFull(r, raw[start+1:]); err != nil {
			return nil, clientHello{}, err
		}
		size := int(binary.BigEndian.Uint16(raw[start+3:]))
		if raw[start+1] != 3 || size == 0 || size > maxRecord || len(raw) > 2*maxHello {
			return nil, clientHello{}, clientHelloError("its TLS record is malformed")
		}
		raw = append(raw, make([]byte, size)...)
		if _, err := io.ReadFull(r, raw[start+5:]); err != nil {
			return nil, clientHello{}, err
		}
		msg = append(msg, raw[start+5:]...)
		if msg[0] != typeClientHello {
			return nil, clientHello{}, clientHelloError("its TLS does not begin with a ClientHello")
		}
		if len(msg) < 4 {
			continue
		}
		want := 4 + int(msg[1])<<16 + int(msg[2])<<8 + int(msg[3])
		switch {
		case want > maxHello:
			return nil, clientHello{}, clientHelloError("its ClientHello is longer than 64 KiB")
		case len(msg) > want:
			return nil, clientHello{}, clientHelloError("something follows its ClientHello in the same record")
		case len(msg) == want:
			h, err := parseClientHello(msg[4:])
			return raw, h, err
		}
	}
}

// parseClientHello reads the body of a ClientHello (RFC 8446 section 4.1.2).
func parseClientHello(b []byte) (clientHello, error) {
	const malformed = clientHelloError("its ClientHello is malformed")
	var h clientHello
	var version uint16
	var session, suites, compression cryptobyte.String
	s := cryptobyte.String(b)
	if !s.ReadUint16(&version) || version>>8 != 3 || !s.Skip(32) ||
		!s.ReadUint8LengthPrefixed(&session) || len(session) > 32 ||
		!s.ReadUint16LengthPrefixed(&suites) || len(suites) == 0 || len(suites)%2 != 0 ||
		!s.ReadUint8LengthPrefixed(&compression) || len(compression) == 0 {
		return h, malformed
	}
	if s.Empty() {
		return h, nil // TLS 1.0 without extensions
	}
	var extensions cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return h, malformed
	}
	seen := map[uint16]bool{}
	for !extensions.Empty() {
		var id uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&id) || !extensions.ReadUint16LengthPrefixed(&data) {
			return h, malformed
		}
		if seen[id] {
			// Servers differ in which of the two they heed.
			return h, clientHelloError("its ClientHello has an extension twice")
		}
		seen[id] = true
		switch id {
		case extECH, extESNI:
			h.encrypted = true
		case extServerName:
			var list, name cryptobyte.String
			var kind uint8
			if !data.ReadUint16LengthPrefixed(&list) || !data.Empty() ||
				!list.ReadUint8(&kind) || kind != 0 ||
				!list.ReadUint16LengthPrefixed(&name) || !list.Empty() || name.Empty() {
				return h, clientHelloError("its ClientHello does not have exactly one server name")
			}
			h.serverName = string(name)
		}
	}
	return h, nil
}
