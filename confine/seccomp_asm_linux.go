package confine

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// bpfMaxInstructions is BPF_MAXINSNS of linux/bpf_common.h.
const bpfMaxInstructions = 4096

// assembler writes classic BPF with named targets. Conditional jumps of classic
// BPF reach 255 instructions; every branch here is a conditional skip over one
// 32-bit unconditional jump where its target is farther, so the size of the
// table can never make a jump land in the wrong place.
type assembler struct {
	code   []bpfInstruction
	labels []int // label -> position in code, -1 until placed
	err    error
}

// bpfLabel names a place in the program. Labels are numbers, not names: the
// program is built at every session start.
type bpfLabel int

// noLabel is in place of the targets of instructions that do not branch.
const noLabel bpfLabel = -1

type bpfInstruction struct {
	op        uint16
	k         uint32
	then, els bpfLabel
}

func (a *assembler) newLabel() bpfLabel {
	a.labels = append(a.labels, -1)
	return bpfLabel(len(a.labels) - 1)
}

// place puts a label before the next instruction.
func (a *assembler) place(l bpfLabel) {
	if a.labels[l] >= 0 {
		a.err = errors.New("seccomp: a label is placed twice")
	}
	a.labels[l] = len(a.code)
}

func (a *assembler) emit(op uint16, k uint32) {
	a.code = append(a.code, bpfInstruction{op, k, noLabel, noLabel})
}

func (a *assembler) load(offset uint32) { a.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset) }

func (a *assembler) and(mask uint32) { a.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, mask) }

func (a *assembler) ret(value uint32) { a.emit(unix.BPF_RET|unix.BPF_K, value) }

// branch goes to then when the accumulator compares true with k, else to els.
func (a *assembler) branch(cond uint16, k uint32, then, els bpfLabel) {
	a.code = append(a.code, bpfInstruction{unix.BPF_JMP | cond | unix.BPF_K, k, then, els})
}

// search finds the rule of the number in the accumulator by halving, about
// seven comparisons for a hundred rules; numbers without a rule are allowed.
func (a *assembler) search(rules []numberedRule, bodies []bpfLabel, allow bpfLabel) {
	switch len(rules) {
	case 0:
		a.branch(unix.BPF_JEQ, 0, allow, allow)
	case 1:
		a.branch(unix.BPF_JEQ, rules[0].nr, bodies[0], allow)
	default:
		mid := len(rules) / 2
		low, high := a.newLabel(), a.newLabel()
		a.branch(unix.BPF_JGE, rules[mid].nr, high, low)
		a.place(low)
		a.search(rules[:mid], bodies[:mid], allow)
		a.place(high)
		a.search(rules[mid:], bodies[mid:], allow)
	}
}

// body writes the clauses of one call; it never falls through.
func (a *assembler) body(r numberedRule) {
	if r.syscallRule.clauses == nil {
		a.ret(retErrno(r.errno))
		return
	}
	loaded := -1 // the argument in the accumulator, when no mask has changed it
	for _, c := range r.clauses {
		next := a.newLabel()
		for _, t := range c.tests {
			holds := a.newLabel()
			if loaded != t.arg {
				a.load(dataArgs + 8*uint32(t.arg))
				loaded = t.arg
			}
			switch t.op {
			case opEqual:
				a.branch(unix.BPF_JEQ, t.value, holds, next)
			case opNotEqual:
				a.branch(unix.BPF_JEQ, t.value, next, holds)
			case opMasked:
				a.and(t.mask)
				loaded = -1
				a.branch(unix.BPF_JEQ, t.value, holds, next)
			case opAnySet:
				a.branch(unix.BPF_JSET, t.mask, holds, next)
			default:
				a.err = fmt.Errorf("seccomp: %s has an unknown test", r.name)
			}
			a.place(holds)
		}
		if c.allow {
			a.ret(retAllow)
		} else {
			a.ret(retErrno(c.errno))
		}
		a.place(next)
		// The next clause is reached from any of this one's tests: the argument
		// is certain only when there was one test that left it alone.
		if len(c.tests) != 1 {
			loaded = -1
		}
	}
	a.ret(retAllow)
}

// assemble turns labels into offsets. A branch is one instruction when both its
// targets are near, else a test and two long jumps.
func (a *assembler) assemble() ([]unix.SockFilter, error) {
	if a.err != nil {
		return nil, a.err
	}
	for _, at := range a.labels {
		if at < 0 {
			return nil, errors.New("seccomp: a label is not placed")
		}
	}
	// Positions depend on which branches are long, and that on the positions:
	// start with all long and shrink while something changes. Shrinking only
	// brings targets nearer, so what is short stays short.
	long := make([]bool, len(a.code))
	for i, in := range a.code {
		long[i] = in.then != noLabel
	}
	pos := make([]int, len(a.code)+1)
	for changed := true; changed; {
		changed = false
		a.positions(pos, long)
		for i, in := range a.code {
			if long[i] && pos[a.labels[in.then]]-pos[i] <= 256 && pos[a.labels[in.els]]-pos[i] <= 256 {
				long[i], changed = false, true
			}
		}
	}
	if n := pos[len(a.code)]; n > bpfMaxInstructions {
		return nil, fmt.Errorf("seccomp: program of %d instructions, the kernel takes %d", n, bpfMaxInstructions)
	}
	out := make([]unix.SockFilter, 0, pos[len(a.code)])
	for i, in := range a.code {
		if in.then == noLabel {
			out = append(out, unix.SockFilter{Code: in.op, K: in.k})
			continue
		}
		t, e := pos[a.labels[in.then]], pos[a.labels[in.els]]
		if t <= pos[i] || e <= pos[i] {
			return nil, errors.New("seccomp: a backward jump")
		}
		if long[i] {
			const ja = unix.BPF_JMP | unix.BPF_JA
			out = append(out,
				unix.SockFilter{Code: in.op, K: in.k, Jt: 0, Jf: 1},
				unix.SockFilter{Code: ja, K: uint32(t - pos[i] - 2)},
				unix.SockFilter{Code: ja, K: uint32(e - pos[i] - 3)})
			continue
		}
		out = append(out, unix.SockFilter{Code: in.op, K: in.k, Jt: uint8(t - pos[i] - 1), Jf: uint8(e - pos[i] - 1)})
	}
	return out, nil
}

func (a *assembler) positions(pos []int, long []bool) {
	for i := range a.code {
		pos[i+1] = pos[i] + 1
		if long[i] {
			pos[i+1] += 2
		}
	}
}
