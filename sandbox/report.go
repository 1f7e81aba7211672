package sandbox

// Report says which confinement a sandbox really has. It names no host paths.
type Report struct {
	Level    Level    `json:"level"`
	Layers   []Layer  `json:"layers"`
	Warnings []string `json:"warnings,omitempty"`
}

// Layer is one part of the confinement. State is StateOn, StateOff or
// StateUnavailable.
type Layer struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// The states of a Layer.
const (
	StateOn          = "on"
	StateOff         = "off"
	StateUnavailable = "unavailable"
)
