package egress

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/iotest"

	"mcp-sandbox/sandbox"
)

// realHello is what Go's own client sends.
func realHello(t testing.TB, name string) []byte {
	t.Helper()
	a, b := net.Pipe()
	go func() {
		_ = tls.Client(a, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
		a.Close()
	}()
	rawBytes, _, err := readClientHello(b)
	b.Close()
	if err != nil {
		t.Fatal(err)
	}
	return rawBytes
}

func TestClientHello(t *testing.T) {
	named := endpoint{name: "example.com", port: 443}
	address := endpoint{addr: netip.MustParseAddr("8.8.8.8"), port: 443}
	hello := func(exts ...ext) []byte { return records(helloMsg(exts...), 16384) }
	long := helloMsg(sni("example.com"), ext{21, make([]byte, 40000)})
	two := append([]byte{0, 28, 0, 0, 11}, "example.com"...)
	two = append(two, 0, 0, 9)
	two = append(two, "evil.test"...)
	for _, c := range []struct {
		name string
		in   []byte
		e    endpoint
		ok   bool
	}{
		{"plain", hello(sni("example.com")), named, true},
		{"real", realHello(t, "example.com"), named, true},
		{"capitals", hello(sni("EXAMPLE.com")), named, true},
		{"one byte a record", records(helloMsg(sni("example.com")), 1), named, true},
		{"across records", records(long, 16384), named, true},
		{"address without a name", hello(), address, true},
		{"address with a name", hello(sni("evil.test")), address, false},
		{"other name", hello(sni("evil.test")), named, false},
		{"real other name", realHello(t, "evil.test"), named, false},
		{"longer name", hello(sni("example.com.evil.test")), named, false},
		{"trailing dot", hello(sni("example.com.")), named, false},
		{"NUL", hello(sni("example.com\x00.evil.test")), named, false},
		{"empty name", hello(sni("")), named, false},
		{"no name", hello(), named, false},
		{"no extensions", records(append([]byte{1, 0, 0, 41, 3, 3}, append(make([]byte, 32), 0, 0, 2, 0x13, 1, 1, 0)...), 1000), named, false},
		{"name twice", hello(sni("example.com"), sni("evil.test")), named, false},
		{"right name second", hello(sni("evil.test"), sni("example.com")), named, false},
		{"two in a list", hello(ext{0, two}), named, false},
		{"other name type", hello(ext{0, []byte{0, 4, 1, 0, 1, 'a'}}), named, false},
		{"ECH", hello(sni("example.com"), ext{extECH, []byte{0}}), named, false},
		{"ESNI", hello(sni("example.com"), ext{extESNI, []byte{0}}), named, false},
		{"trailing bytes", records(append(helloMsg(sni("example.com")), helloMsg(sni("evil.test"))...), 16384), named, false},
		{"server hello", records([]byte{2, 0, 0, 1, 0}, 100), named, false},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"), named, false},
		{"SSH", []byte("SSH-2.0-x\r\n"), named, false},
		{"SSLv2", []byte{0x80, 0x2e, 1, 3, 3, 0, 0}, named, false},
		{"application data", []byte{23, 3, 3, 0, 1, 0}, named, false},
		{"empty record", []byte{22, 3, 1, 0, 0}, named, false},
		{"huge record", []byte{22, 3, 1, 0xff, 0xff}, named, false},
		{"huge message", records([]byte{1, 0xff, 0xff, 0xff, 0}, 100), named, false},
		{"wrong version", append([]byte{22, 9}, hello(sni("example.com"))[2:]...), named, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rawBytes, h, err := readClientHello(iotest.OneByteReader(bytes.NewReader(c.in)))
			if err == nil {
				err = h.check(c.e)
			}
			var fault clientHelloError
			switch {
			case c.ok && (err != nil || !bytes.Equal(rawBytes, c.in)):
				t.Errorf("%v, %d of %d bytes", err, len(rawBytes), len(c.in))
			case !c.ok && !errors.As(err, &fault):
				t.Errorf("error %v, want a fault", err)
			}
		})
	}
}

// FuzzClientHello holds that the reader gives back exactly what it took, and that
// nothing passes without the asked-for name standing in it in clear.
func FuzzClientHello(f *testing.F) {
	f.Add(records(helloMsg(sni("example.com")), 7))
	f.Add(records(helloMsg(sni("evil.test"), ext{extECH, nil}), 16384))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		rawBytes, h, err := readClientHello(r)
		if err != nil {
			return
		}
		if !bytes.Equal(rawBytes, in[:len(in)-r.Len()]) {
			t.Fatal("bytes lost")
		}
		if h.check(endpoint{name: "example.com", port: 443}) == nil {
			var msg []byte
			for rest := rawBytes; len(rest) > 0; {
				n := int(rest[3])<<8 + int(rest[4])
				msg = append(msg, rest[5:5+n]...)
				rest = rest[5+n:]
			}
			if !bytes.Contains(bytes.ToLower(msg), []byte("example.com")) {
				t.Fatalf("passed without its name: %x", in)
			}
		}
	})
}

func TestSOCKSRequest(t *testing.T) {
	good := socksBytes(1, 3, []byte("Example.com."), 443)[3:]
	if command, host, e, err := readSOCKSRequest(bytes.NewReader(good)); err != nil || command != 1 || host != "Example.com." || e.String() != "example.com:443" {
		t.Errorf("%d %q %v %v", command, host, e, err)
	}
	for at, value := range map[int]byte{0: 4, 2: 1, 3: 9} {
		bad := bytes.Clone(good)
		bad[at] = value
		if _, _, e, err := readSOCKSRequest(bytes.NewReader(bad)); !errors.Is(err, errSOCKS) {
			t.Errorf("byte %d is %d: %v, %v", at, value, e, err)
		}
	}
	for n := range len(good) {
		if _, _, e, err := readSOCKSRequest(bytes.NewReader(good[:n])); err == nil {
			t.Errorf("%d bytes give %v", n, e)
		}
	}
}

// FuzzSOCKS holds that an accepted request names a host in the one form.
func FuzzSOCKS(f *testing.F) {
	f.Add(socksBytes(1, 3, []byte("example.com"), 443)[3:])
	f.Add(socksBytes(1, 1, []byte{127, 0, 0, 1}, 80)[3:])
	f.Add(socksBytes(3, 4, make([]byte, 16), 0)[3:])
	f.Add(socksBytes(1, 3, []byte("a\x00b"), 443)[3:])
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _, e, err := readSOCKSRequest(bytes.NewReader(in))
		if err != nil {
			if e.port == 0 && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errSOCKS) {
				var own *sandbox.Error
				if !errors.As(err, &own) {
					t.Fatalf("%x: %v", in, err)
				}
			}
			return
		}
		if again, err := parseHostPort(e.String(), 0); err != nil || again != e {
			t.Fatalf("%x: %v gives %v, %v", in, e, again, err)
		}
	})
}
