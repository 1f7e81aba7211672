package workspace

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
)

// maxXZSteps bounds the pieces looked at: an honest file of 1 GiB has some
// 50,000.
const maxXZSteps = 4 << 20

// checkXZ walks the structure of an .xz file (version 1.1.0 of its format,
// sections 2 to 4) without decompressing it, and refuses blocks that ask for a
// dictionary larger than most.
func checkXZ(ctx context.Context, r io.ReaderAt, size, most int64) error {
	bad := errors.New("xz structure")
	b := make([]byte, 1024)
	at := int64(0)
	steps := 0
	read := func(n int64) ([]byte, error) {
		if steps++; steps > maxXZSteps {
			return nil, fail(codeTooLarge, "the archive is cut into too many pieces; unpack it with a command")
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if n > int64(len(b)) || at+n > size {
			return nil, bad
		}
		_, err := r.ReadAt(b[:n], at)
		if err == io.EOF {
			err = nil
		}
		at += n
		return b[:n], err
	}
	varint := func() (v uint64, err error) {
		for i := range 9 {
			c, err := read(1)
			if err != nil {
				return 0, err
			}
			v |= uint64(c[0]&0x7f) << (7 * i)
			if c[0]&0x80 == 0 {
				return v, nil
			}
		}
		return 0, bad
	}
	for at < size {
		h, err := read(4)
		if err != nil {
			return err
		}
		if binary.LittleEndian.Uint32(h) == 0 {
			continue // padding between streams
		}
		if h, err = read(8); err != nil {
			return err
		}
		check, ok := map[byte]int64{0: 0, 1: 4, 4: 8, 10: 32}[h[3]&0xf]
		if !ok {
			return bad
		}
		for blocks := uint64(0); ; blocks++ {
			start := at
			h, err := read(1)
			if err != nil {
				return err
			}
			if h[0] == 0 { // the index
				n, err := varint()
				if err != nil || n != blocks {
					return bad
				}
				for range 2 * n {
					if _, err := varint(); err != nil {
						return err
					}
				}
				at += (4 - (at-start)%4) % 4
				at += 4 + 12 // its checksum and the stream footer
				break
			}
			length := (int64(h[0]) + 1) * 4
			if h, err = read(length - 1); err != nil {
				return err
			}
			dict, ok := xzDictionary(h)
			if !ok {
				return bad
			}
			if dict > most {
				return fail(codeTooLarge, "the archive needs %d bytes of memory to unpack and at most %d are allowed; unpack it with a command", dict, most)
			}
			if err := skipLZMA2(read, &at); err != nil {
				return err
			}
			at += (4-(at-start)%4)%4 + check
		}
	}
	return nil
}

// xzDictionary finds the dictionary size in a block header (5.3.1 of the
// format): the one filter must be LZMA2.
func xzDictionary(h []byte) (int64, bool) {
	flags, h := h[0], h[1:]
	if flags&3 != 0 {
		return 0, false // several filters; the library has only this one
	}
	for _, bit := range []byte{0x40, 0x80} {
		if flags&bit == 0 {
			continue
		}
		i := 0
		for i < len(h) && h[i]&0x80 != 0 {
			i++
		}
		if i >= len(h) {
			return 0, false
		}
		h = h[i+1:]
	}
	if len(h) < 3 || h[0] != 0x21 || h[1] != 1 || h[2] > 40 {
		return 0, false
	}
	if h[2] == 40 {
		return 1<<32 - 1, true
	}
	return int64(2|h[2]&1) << (h[2]/2 + 11), true
}

// skipLZMA2 passes over the chunks of a block by their headers.
func skipLZMA2(read func(int64) ([]byte, error), at *int64) error {
	for {
		c, err := read(1)
		if err != nil {
			return err
		}
		switch control := c[0]; {
		case control == 0:
			return nil
		case control <= 2:
			if c, err = read(2); err != nil {
				return err
			}
			*at += int64(binary.BigEndian.Uint16(c)) + 1
		case control >= 0x80:
			if c, err = read(4); err != nil {
				return err
			}
			*at += int64(binary.BigEndian.Uint16(c[2:])) + 1
			if control >= 0xc0 {
				*at++
			}
		default:
			return errors.New("xz chunk")
		}
	}
}
