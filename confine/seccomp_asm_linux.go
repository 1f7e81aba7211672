package confine

import (
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
	labels map[string]int
	err    error
}

type bpfInstruction struct {
	op   uint16
	k    uint32
	then string // branch and jump targets, "" for plain instructions
	els  string
}

func (a *assembler) emit(i bpfInstruction) { a.code = append(a.code, i) }

func (a *assembler) load(offset uint32) {
	a.emit(bpfInstruction{op: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, k: offset})
}

func (a *assembler) and(mask uint32) {
	a.emit(bpfInstruction{op: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, k: mask})
}

func (a *assembler) ret(value uint32) {
	a.emit(bpfInstruction{op: unix.BPF_RET | unix.BPF_K, k: value})
}

// branch goes to then when the accumulator compares true with k, else to els.
func (a *assembler) branch(cond uint16, k uint32, then, els string) {
	a.emit(bpfInstruction{op: unix.BPF_JMP | cond | unix.BPF_K, k: k, then: then, els: els})
}

func (a *assembler) label(name string) {
	if a.labels == nil {
		a.labels = make(map[string]int)
	}
	if _, dup := a.labels[name]; dup {
		a.err = fmt.Errorf("seccomp: label %q set twice", name)
	}
	a.labels[name] = len(a.code)
}

// search finds the rule of the number in the accumulator by halving, about
// seven comparisons for a hundred rules; numbers without a rule go to "allow".
func (a *assembler) search(rules []numberedRule, at string) {
	switch len(rules) {
	case 0:
		a.branch(unix.BPF_JEQ, 0, "allow", "allow")
	case 1:
		a.branch(unix.BPF_JEQ, rules[0].nr, rules[0].label(), "allow")
	default:
		mid := len(rules) / 2
		low, high := at+"l", at+"h"
		a.branch(unix.BPF_JGE, rules[mid].nr, high, low)
		a.label(low)
		a.search(rules[:mid], low)
		a.label(high)
		a.search(rules[mid:], high)
	}
}

// body writes the clauses of one call; it never falls through.
func (a *assembler) body(r numberedRule, o seccompOptions) {
	if r.syscallRule.clauses == nil {
		a.ret(retErrno(r.errno))
		return
	}
	for ci, c := range r.clauses {
		next := fmt.Sprintf("%s clause %d", r.label(), ci+1)
		for ti, t := range c.tests {
			holds := fmt.Sprintf("%s clause %d test %d", r.label(), ci, ti+1)
			a.load(dataArgs + 8*uint32(t.arg))
			switch t.op {
			case opEqual:
				a.branch(unix.BPF_JEQ, t.value, holds, next)
			case opNotEqual:
				a.branch(unix.BPF_JEQ, t.value, next, holds)
			case opMasked:
				a.and(t.mask)
				a.branch(unix.BPF_JEQ, t.value, holds, next)
			case opAnySet:
				a.branch(unix.BPF_JSET, t.mask, holds, next)
			default:
				a.err = fmt.Errorf("seccomp: %s has an unknown test", r.name)
			}
			a.label(holds)
		}
		if c.allow {
			a.ret(retAllow)
		} else {
			a.ret(retErrno(c.errno))
		}
		a.label(next)
	}
	a.ret(retAllow)
}

// assemble turns targets into offsets. Every branch becomes three instructions
// (test, jump, jump) unless a target is the next instruction or close enough;
// simplicity is worth more than the few instructions saved, so only the
// "both near" case is shortened.
func (a *assembler) assemble() ([]unix.SockFilter, error) {
	if a.err != nil {
		return nil, a.err
	}
	// Positions depend on which branches are long, and that on the positions:
	// start with all long and shrink while something changes.
	long := make([]bool, len(a.code))
	for i, in := range a.code {
		long[i] = in.then != ""
	}
	var pos []int
	for {
		pos = a.positions(long)
		changed := false
		for i, in := range a.code {
			if !long[i] {
				continue
			}
			t, e, err := a.targets(in, pos)
			if err != nil {
				return nil, err
			}
			if t-pos[i]-1 <= 255 && e-pos[i]-1 <= 255 {
				long[i], changed = false, true
			}
		}
		if !changed {
			break
		}
	}
	out := make([]unix.SockFilter, 0, pos[len(a.code)])
	for i, in := range a.code {
		if in.then == "" {
			out = append(out, unix.SockFilter{Code: in.op, K: in.k})
			continue
		}
		t, e, err := a.targets(in, pos)
		if err != nil {
			return nil, err
		}
		if t <= pos[i] || e <= pos[i] {
			return nil, fmt.Errorf("seccomp: backward jump to %q or %q", in.then, in.els)
		}
		if long[i] {
			ja := uint16(unix.BPF_JMP | unix.BPF_JA)
			out = append(out,
				unix.SockFilter{Code: in.op, K: in.k, Jt: 0, Jf: 1},
				unix.SockFilter{Code: ja, K: uint32(t - pos[i] - 2)},
				unix.SockFilter{Code: ja, K: uint32(e - pos[i] - 3)})
			continue
		}
		out = append(out, unix.SockFilter{Code: in.op, K: in.k, Jt: uint8(t - pos[i] - 1), Jf: uint8(e - pos[i] - 1)})
	}
	if len(out) > bpfMaxInstructions {
		return nil, fmt.Errorf("seccomp: program of %d instructions, the kernel takes %d", len(out), bpfMaxInstructions)
	}
	return out, nil
}

func (a *assembler) positions(long []bool) []int {
	pos := make([]int, len(a.code)+1)
	for i := range a.code {
		pos[i+1] = pos[i] + 1
		if long[i] {
			pos[i+1] += 2
		}
	}
	return pos
}

func (a *assembler) targets(in bpfInstruction, pos []int) (then, els int, err error) {
	t, ok := a.labels[in.then]
	if !ok {
		return 0, 0, fmt.Errorf("seccomp: no label %q", in.then)
	}
	e, ok := a.labels[in.els]
	if !ok {
		return 0, 0, fmt.Errorf("seccomp: no label %q", in.els)
	}
	return pos[t], pos[e], nil
}
