package session

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf16"
)

// systemBundles are where a system keeps the certificates of its own, of which its
// Java has a key store already.
var systemBundles = []string{"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"}

// mostJavaTrust bounds a key store, in bytes; a system's bundle is a fifth of it.
const mostJavaTrust = 1 << 20

// javaTrust makes a key store of the certificates in a PEM file, which Java reads in
// place of its own; "" for the system's bundle, and where there are none.
//
// The format is JKS, which all of them read: a header, an entry for each certificate,
// and a digest with a password, which is Java's default one (sun.security.provider.JavaKeyStore).
func javaTrust(name string) string {
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return ""
	}
	for _, dir := range systemBundles {
		if within(real, dir) {
			return ""
		}
	}
	text, err := os.ReadFile(real)
	if err != nil {
		return ""
	}
	const trusted = 2
	word := binary.BigEndian.AppendUint32
	str := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...) }
	var entries []byte
	n := uint32(0)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		n++
		entries = str(word(entries, trusted), "ca-"+strconv.Itoa(int(n)))
		entries = binary.BigEndian.AppendUint64(entries, 0) // made in 1970
		entries = append(word(str(entries, "X.509"), uint32(len(block.Bytes))), block.Bytes...)
		if len(entries) > mostJavaTrust {
			return ""
		}
	}
	if n == 0 {
		return ""
	}
	store := append(word(word(word(nil, 0xfeedfeed), 2), n), entries...)
	h := sha1.New()
	for _, c := range utf16.Encode([]rune("changeit")) {
		h.Write(binary.BigEndian.AppendUint16(nil, c))
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(store)
	return string(h.Sum(store))
}
