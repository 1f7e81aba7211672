package snapshot

import (
	"reflect"
	"testing"
	"time"
)

// TestBriefRecord: a list reads of a record what the whole one says.
func TestBriefRecord(t *testing.T) {
	now := time.Unix(1_700_000_000, 0).UTC()
	rec := &record{Version: recordVersion, Info: Info{ID: newID(now, ""), Label: `"manifest":[`, Baseline: true, Time: now, Files: 3, Skipped: []Skipped{{"a", skipFIFO}}, SkippedCount: 1}}
	rec.Manifest = []recordChunk{{ID: "i", Pack: "p", Off: 1, Size: 2, Raw: 3}}
	b, err := rec.encode()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := decodeRecord(b, rec.Info.ID, false)
	if err != nil {
		t.Fatal(err)
	}
	brief, err := decodeRecord(b, rec.Info.ID, true)
	if err != nil || !reflect.DeepEqual(whole.Info, brief.Info) || brief.Manifest != nil {
		t.Errorf("%+v became %+v, %v", whole.Info, brief, err)
	}
	b[len(b)-2]++
	if _, err := decodeRecord(b, rec.Info.ID, true); err == nil {
		t.Error("a damaged record was taken")
	}
}

// TestRetentionKeepsAll: records go unread only where none of them could be dropped.
func TestRetentionKeepsAll(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	at := func(before ...time.Duration) (ids []string) {
		for _, d := range before {
			ids = append(ids, newID(now.Add(-d), ""))
		}
		return ids
	}
	for _, c := range []struct {
		name string
		keep Retention
		ids  []string
		want bool
	}{
		{"none there", Retention{Count: 1, Age: time.Hour}, nil, true},
		{"as many as may be", Retention{Count: 2}, at(time.Hour, 0), true},
		{"one more", Retention{Count: 2}, at(2*time.Hour, time.Hour, 0), false},
		{"young", Retention{Count: 2, Age: time.Hour}, at(time.Hour, time.Minute), true},
		{"one is old", Retention{Age: time.Hour}, at(time.Hour+time.Millisecond, time.Minute), false},
		{"the clock was ahead", Retention{Age: time.Hour}, at(time.Minute, -time.Minute), false},
	} {
		if got := c.keep.keepsAll(c.ids, now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
