package egress

import (
	_ "embed"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/publicsuffix"
)

//go:embed presets.txt
var presetText string

// presets are the rules behind each preset name.
var presets = sync.OnceValue(func() map[string][]string {
	out := map[string][]string{}
	name := ""
	for line := range strings.Lines(presetText) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			name = strings.Trim(line, "[]")
			out[name] = nil
		default:
			out[name] = append(out[name], line)
		}
	}
	return out
})

// Policy says which hosts may be reached. It never changes once made, and may be
// used by many goroutines. A nil *Policy denies everything.
type Policy struct {
	allow, deny []Rule
	blocks      []special
}

// Decision is what a Policy says of one host and port.
type Decision struct {
	Allowed bool
	Rule    string // the rule that decided, "" where none matched
	Reason  string // a clause for people: "the allow list has no rule for it"
	flag    string
	limit   bool // flag raises a limit
	gap     bool // no rule speaks of it, and it is not an address that one would have to name
}

// NewPolicy makes a policy of rules (see ParseRule) and presets. A rule with a
// leading "!" in allow is a denial; deny takes rules without one. Denials are
// looked at first.
//
// No rules at all give a policy that denies everything. Anything that cannot be
// read (also an empty string, as a list split wrongly has) is an error with code
// invalid_argument and no policy: on a reload keep the old policy, or set nil to
// close.
func NewPolicy(allow, deny, presetNames []string) (*Policy, error) {
	p := &Policy{blocks: specialBlocks()}
	add := func(text string, deny bool) error {
		r, err := ParseRule(text)
		if err != nil {
			return err
		}
		if deny && r.deny {
			return invalid("the denial %s has a \"!\" of its own; remove it", quoteHost(text))
		}
		if r.deny = r.deny || deny; r.deny {
			p.deny = append(p.deny, r)
		} else {
			p.allow = append(p.allow, r)
		}
		return nil
	}
	for _, text := range allow {
		if err := add(text, false); err != nil {
			return nil, err
		}
	}
	for _, text := range deny {
		if err := add(text, true); err != nil {
			return nil, err
		}
	}
	for _, name := range presetNames {
		rules, ok := presets()[name]
		if !ok {
			known := slices.Sorted(maps.Keys(presets()))
			return nil, invalid("there is no preset %s; use one of %s", quoteHost(name), strings.Join(known, ", "))
		}
		for _, text := range rules {
			if err := add(text, false); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// Rules gives every rule in force, denials first.
func (p *Policy) Rules() []Rule {
	if p == nil {
		return nil
	}
	return slices.Concat(p.deny, p.allow)
}

func (p *Policy) decide(e endpoint) Decision {
	if p == nil {
		return closed(e)
	}
	if e.name == "" {
		return p.decideAddr(e.addr, e.port, true)
	}
	for _, r := range p.deny {
		if r.matchesName(e.name) && r.matchesPort(e.port) {
			return Decision{Rule: r.String(), Reason: "a rule denies it"}
		}
	}
	otherPort := ""
	for _, r := range p.allow {
		if !r.matchesName(e.name) {
			continue
		}
		if r.matchesPort(e.port) {
			return Decision{Allowed: true, Rule: r.String(), Reason: "a rule allows it"}
		}
		otherPort = r.String()
	}
	return p.unmatched(e, otherPort)
}

// decideAddr judges an address: one a client asked for (literal, so a rule must
// name it), or one that an allowed name resolved to (where only special
// addresses need a rule of their own).
func (p *Policy) decideAddr(a netip.Addr, port uint16, literal bool) Decision {
	e := endpoint{addr: a, port: port}
	if p == nil {
		return closed(e)
	}
	v4, _, translated := embedded(a)
	for _, r := range p.deny {
		if (r.matchesAddr(a) || translated && r.matchesAddr(v4)) && r.matchesPort(port) {
			return Decision{Rule: r.String(), Reason: "a rule denies the address " + a.String()}
		}
	}
	s, bad := classify(p.blocks, a)
	otherPort := ""
	for _, r := range p.allow {
		if !r.matchesAddr(a) || bad && !r.within(s.block) {
			continue
		}
		if r.matchesPort(port) {
			return Decision{Allowed: true, Rule: r.String(), Reason: "a rule allows the address"}
		}
		otherPort = r.String()
	}
	if bad {
		return Decision{Rule: otherPort, Reason: a.String() + " is " + s.what + " that no rule names", flag: allowFlag(e)}
	}
	if !literal {
		return Decision{Allowed: true, Reason: "a public address"}
	}
	return p.unmatched(e, otherPort)
}

// namesExactly tells whether a rule of exactly this address opens the port.
func (p *Policy) namesExactly(a netip.Addr, port uint16) bool {
	return p != nil && slices.ContainsFunc(p.allow, func(r Rule) bool {
		return r.matchesAddr(a) && r.prefix.IsSingleIP() && r.matchesPort(port)
	})
}

func (p *Policy) unmatched(e endpoint, otherPort string) Decision {
	d := Decision{Rule: otherPort, Reason: "the allow list has no rule for it", flag: allowFlag(e), gap: true}
	if len(p.allow) == 0 {
		d.Reason = "the allow list is empty"
	}
	if otherPort != "" {
		d.Reason = "the rule for it does not cover this port"
	}
	return d
}

// closed is the answer without a policy.
func closed(e endpoint) Decision {
	return Decision{Reason: "the allow list is empty", flag: allowFlag(e)}
}

// allowFlag is the setting that would let e through. Its host is normalised, so
// the text is safe to show and to paste.
func allowFlag(e endpoint) string {
	if e.port == 80 || e.port == 443 {
		return "--allow-host " + e.host()
	}
	return "--allow-host " + e.String()
}

// Warnings are sentences about rules that open what nobody answers for: everything
// below a domain in which anybody can have a name (https://publicsuffix.org).
func (p *Policy) Warnings() (out []string) {
	if p == nil {
		return nil
	}
	for _, r := range p.allow {
		if !r.below {
			continue
		}
		suffix, icann := publicsuffix.PublicSuffix(r.name)
		// Without a dot and not of ICANN it is on no list, such as "internal".
		if suffix == r.name && (icann || strings.Contains(suffix, ".")) {
			out = append(out, "the rule *."+r.name+" allows hosts that anybody can register or publish on; name the hosts that are needed")
		}
	}
	return out
}
