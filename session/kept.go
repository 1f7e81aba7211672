package session

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
)

// keptPrefix marks the names that KeptName gives, so that only those are deleted
// for their age.
const keptPrefix = "client-"

// KeptName is a session name for a client's key that does not give it away. The
// names of one principal begin alike, so that they can be counted.
func KeptName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return keptBy(principalOf(key)) + hex.EncodeToString(sum[:16])
}

// keptBy is how the names of a principal's sessions begin.
func keptBy(principal string) string {
	sum := sha256.Sum256([]byte(principal))
	return keptPrefix + hex.EncodeToString(sum[:6]) + "-"
}

// mayKeep takes a place among what a principal keeps for a session that is about
// to be made; its entry holds the place until the session is saved. Servers that
// share a state directory see of each other's sessions only the saved ones.
// Code: limit_reached.
func (m *Manager) mayKeep(key string) error {
	limit := cmp.Or(m.limitsOf(principalOf(key)).MaxKept, m.config.MaxKept)
	if limit <= 0 || m.config.NameOf == nil {
		return nil
	}
	m.keeping.Lock()
	defer m.keeping.Unlock()
	principal := principalOf(key)
	begins := keptBy(principal)
	kept := map[string]bool{}
	for _, name := range m.state.savedNames(begins) {
		kept[name] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, e := range m.sessions {
		if e.keeps && principalOf(k) == principal {
			kept[m.config.NameOf(k)] = true
		}
	}
	if len(kept) >= limit {
		return errorf("limit_reached", nil, "you keep %d sandboxes, idle ones included, and may keep no more; end one you no longer need with session_close or ask the operator to raise --max-kept-per-principal", len(kept))
	}
	if e := m.sessions[key]; e != nil {
		e.keeps = true
	}
	return nil
}
