package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// soakReport is the result of a soak, and the JSON that is kept of it.
type soakReport struct {
	Kept      bool          `json:"promises_kept"`
	Started   string        `json:"started"`
	Duration  string        `json:"duration"`
	Rate      float64       `json:"calls_per_second"` // that was aimed at
	Machine   machine       `json:"machine"`
	Databases []*soakResult `json:"databases"`
}

// soakResult is what one database came to.
type soakResult struct {
	Database      string           `json:"database"`
	Broken        string           `json:"broken,omitempty"` // promise
	Calls         map[string]int64 `json:"calls"`
	Graceful      int              `json:"restarts_graceful"`
	Killed        int              `json:"restarts_killed"`
	Ready         []float64        `json:"ready_ms"` // after each
	Looked        int              `json:"acknowledged_found"`
	Dead          map[string]int   `json:"dead"`   // grants, by why
	Sealed        map[string]int   `json:"sealed"` // those of them whose tasks are sealed
	Verified      int64            `json:"verified_entries"`
	Checkpoints   int              `json:"verified_checkpoints"`
	VerifySeconds float64          `json:"verify_seconds"`
	Growth        []float64        `json:"rss_growth_mib"` // over each life of the server, from its second sample to its last
	Samples       []sample         `json:"samples"`
	Goals         []goal           `json:"flat"`
}

func figures(samples []sample, of func(sample) float64) []float64 {
	out := make([]float64, len(samples))
	for i, s := range samples {
		out[i] = of(s)
	}
	return out
}

func perEntry(s sample) float64 { return s.Database / max(s.Entries, 1) }

// judge compares the last quarter with the second: the first is warming up.
func (r *soakResult) judge() {
	n := len(r.Samples)
	if n < 4 {
		return
	}
	second, last := r.Samples[n/4:n/2], r.Samples[3*n/4:]
	compare := func(what, want string, most float64, of func(spread) float64, figure func(sample) float64) {
		before, after := of(spreadOf(figures(second, figure))), of(spreadOf(figures(last, figure)))
		got := after / max(before, 1e-9)
		r.Goals = append(r.Goals, goal{what + ", last quarter to second", want, got, got <= most})
	}
	median, high := func(s spread) float64 { return s.Median }, func(s spread) float64 { return s.High }
	compare("memory, median", "<= 1.15", 1.15, median, func(s sample) float64 { return s.RSS })
	compare("WAL, highest", "<= 1.5", 1.5, high, func(s sample) float64 { return s.WAL })
	compare("database bytes an entry, median", "0.85 to 1.15", 1.15, median, perEntry)
	bytes := &r.Goals[len(r.Goals)-1]
	bytes.Met = bytes.Met && bytes.Got >= 0.85
	compare("p50 of requests, median", "<= 1.5", 1.5, median, func(s sample) float64 { return s.P50 })
	compare("p99 of requests, median", "<= 1.5", 1.5, median, func(s sample) float64 { return s.P99 })
	for i := 0; i < n; {
		j := i
		for j+1 < n && r.Samples[j+1].Lives == r.Samples[i].Lives {
			j++
		}
		if j > i+1 {
			r.Growth = append(r.Growth, r.Samples[j].RSS-r.Samples[i+1].RSS)
		}
		i = j + 1
	}
}

// sparkline draws values from their lowest to their highest; a figure that hardly moves is drawn flat.
func sparkline(values []float64) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	low, high := slices.Min(values), slices.Max(values)
	span := max(high-low, high/20, 1e-9)
	out := make([]rune, len(values))
	for i, v := range values {
		out[i] = blocks[min(int((v-low)/span*float64(len(blocks))), len(blocks)-1)]
	}
	return string(out)
}

func (r *soakResult) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %d graceful restarts and %d by kill -9; %d acknowledged decisions looked for and found; %d entries verified with %d checkpoints in %.1f s\n",
		r.Database, r.Graceful, r.Killed, r.Looked, r.Verified, r.Checkpoints, r.VerifySeconds)
	if r.Broken != "" {
		fmt.Fprintln(w, "  BROKEN  "+r.Broken)
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Calls)) {
		fmt.Fprintf(w, "  %8d  %s\n", r.Calls[kind], kind)
	}
	for _, why := range slices.Sorted(maps.Keys(r.Dead)) {
		fmt.Fprintf(w, "  %8d  grants seen dead at the end: %s; of %d the task is sealed\n", r.Dead[why], why, r.Sealed[why])
	}
	if n := len(r.Samples); n >= 4 {
		const mib = 1 << 20
		fmt.Fprintf(w, "\n  %-22s %10s %10s %10s\n", "", "2nd quarter", "last", "highest")
		row := func(name string, of func(sample) float64) {
			second, last, all := spreadOf(figures(r.Samples[n/4:n/2], of)), spreadOf(figures(r.Samples[3*n/4:], of)), figures(r.Samples, of)
			if slices.Max(all) > 0 {
				fmt.Fprintf(w, "  %-22s %10.2f %10.2f %10.2f  %s\n", name, second.Median, last.Median, slices.Max(all), sparkline(all))
			}
		}
		row("memory MiB", func(s sample) float64 { return s.RSS })
		row("database MiB", func(s sample) float64 { return s.Database / mib })
		row("WAL MiB", func(s sample) float64 { return s.WAL / mib })
		row("entries", func(s sample) float64 { return s.Entries })
		row("database bytes/entry", perEntry)
		row("requests", func(s sample) float64 { return float64(s.Requests) })
		row("p50 ms", func(s sample) float64 { return s.P50 })
		row("p99 ms", func(s sample) float64 { return s.P99 })
		row("open files", func(s sample) float64 { return s.Files })
		row("threads", func(s sample) float64 { return s.Threads })
		row("goroutines", func(s sample) float64 { return s.Goroutines })
		fmt.Fprintln(w, "  The database grows with the log, as it must: what is flat is what an entry takes.")
	}
	if len(r.Growth) > 0 {
		g := spreadOf(r.Growth)
		fmt.Fprintf(w, "  Memory grew by %.1f MiB (%.1f to %.1f) over a life of the server: a restart hides what would leak for longer.\n", g.Median, g.Low, g.High)
	}
	for _, g := range r.Goals {
		word := "flat    "
		if !g.Met {
			word = "NOT FLAT"
		}
		fmt.Fprintf(w, "  %s  %-58s %-14s got %.3g\n", word, g.What, g.Want, g.Got)
	}
}
