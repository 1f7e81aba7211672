// Package sandbox holds the nouns of the product that more than one package
// speaks of, so that each is declared once: what a sandbox may reach and what it
// reports, what a command is and how it ended, and the coded error of every
// refusal.
//
// It holds no behaviour beyond that, imports the standard library alone, and may
// be imported by every other package. What only one package needs stays there.
package sandbox
