package main

import (
	"fmt"
	"io"
	"slices"
)

// report is the result of a run, and the JSON that is kept of it. Times are in milliseconds, sizes in MiB, CPU in
// microseconds for a request.
type report struct {
	Valid    bool     `json:"valid"`
	Started  string   `json:"started"`
	Seconds  float64  `json:"seconds"`
	Machine  machine  `json:"machine"`
	Settings asked    `json:"settings"`
	Policies policies `json:"policies"`
	Cells    []cell   `json:"cells"`
	Flushes  []flush  `json:"flushes"`
	Large    []large  `json:"large"`
	Goals    []goal   `json:"goals"`
	Notes    []string `json:"notes"`

	Callers []compared `json:"callers,omitempty"`
}

type machine struct {
	Cores    int    `json:"cores"`
	CPU      string `json:"cpu"`
	MemoryMB int    `json:"memory_mb"`
	Load     string `json:"load_before"` // averages of 1, 5 and 15 minutes when the run began
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
	Writ     string `json:"writ"`
	Commit   string `json:"commit"`
	Postgres string `json:"postgres,omitempty"`
}

type asked struct {
	Duration    string    `json:"duration"`
	Databases   []string  `json:"databases"`
	Callers     []callers `json:"callers"`
	Connections []int     `json:"connections"`
	Repeats     int       `json:"repeats"`
	Identities  int       `json:"identities"`
	Entries     int       `json:"entries"`
	Idempotency bool      `json:"idempotency_keys"`
	Request     int       `json:"request_bytes"` // of the body
	Answer      int       `json:"answer_bytes"`
	Tokens      string    `json:"tokens"`
	Signatures  string    `json:"signatures"`
}

type policies struct {
	Access   int `json:"access"`
	Approval int `json:"approval"`
	Risk     int `json:"risk"`
}

// measured is one pass.
type measured struct {
	Requests int64            `json:"requests"`
	Rate     float64          `json:"rate"`
	P50      float64          `json:"p50_ms"`
	P99      float64          `json:"p99_ms"`
	Max      float64          `json:"max_ms"`
	CPU      float64          `json:"cpu_us"` // of the server, for each request
	Postgres float64          `json:"postgres_cpu_us,omitempty"`
	Callers  float64          `json:"callers_cpu_us"` // of all callers together, for each request
	Outcomes map[string]int64 `json:"outcomes"`

	Handshakes int64   `json:"handshakes,omitempty"`       // of TLS, before the time was taken
	Handshake  float64 `json:"handshake_cpu_us,omitempty"` // of the server, for each of them, with its connection and one GET; where each identity has one
	Proving    float64 `json:"proving_cpu_us,omitempty"`   // of the callers, for each proof made before the time was taken
	LateProofs int64   `json:"late_proofs,omitempty"`      // made while it was taken
}

// repeat is the passes that are compared with each other: bare handler, fresh server, the same server warm.
type repeat struct {
	Bare    measured `json:"bare"`
	Cold    measured `json:"cold"`
	Warm    measured `json:"warm"`
	Ratio   float64  `json:"ratio"`      // warm to bare
	ColdTo  float64  `json:"ratio_cold"` // cold to bare
	RSS     float64  `json:"rss_mib"`
	Highest float64  `json:"rss_highest_mib"`
}

// spread is a median and what it lies between.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Low: sorted[0], High: sorted[n-1]}
}

// cell is one database at one number of connections, called in one way.
type cell struct {
	Database    string   `json:"database"`
	Callers     callers  `json:"callers"`
	Connections int      `json:"connections"`
	Bare        summary  `json:"bare"`
	Cold        summary  `json:"cold"`
	Warm        summary  `json:"warm"`
	Ratio       spread   `json:"ratio"`
	ColdTo      spread   `json:"ratio_cold"`
	RSS         spread   `json:"rss_mib"`
	Highest     spread   `json:"rss_highest_mib"`
	Repeats     []repeat `json:"repeats"`
}

// summary is one kind of pass over all repeats.
type summary struct {
	Rate     spread `json:"rate"`
	P50      spread `json:"p50_ms"`
	P99      spread `json:"p99_ms"`
	Max      spread `json:"max_ms"`
	CPU      spread `json:"cpu_us"`
	Postgres spread `json:"postgres_cpu_us"`
	Callers  spread `json:"callers_cpu_us"`
}

func over[T any](all []T, figure func(*T) float64) spread {
	values := make([]float64, len(all))
	for i := range all {
		values[i] = figure(&all[i])
	}
	return spreadOf(values)
}

func summarize(all []repeat, which func(*repeat) *measured) summary {
	figure := func(of func(*measured) float64) spread {
		return over(all, func(r *repeat) float64 { return of(which(r)) })
	}
	return summary{
		Rate: figure(func(m *measured) float64 { return m.Rate }),
		P50:  figure(func(m *measured) float64 { return m.P50 }),
		P99:  figure(func(m *measured) float64 { return m.P99 }),
		Max:  figure(func(m *measured) float64 { return m.Max }),
		CPU:  figure(func(m *measured) float64 { return m.CPU }), Postgres: figure(func(m *measured) float64 { return m.Postgres }),
		Callers: figure(func(m *measured) float64 { return m.Callers }),
	}
}

func cellOf(database string, how callers, connections int, all []repeat) cell {
	return cell{
		Database: database, Callers: how, Connections: connections, Repeats: all,
		Bare:    summarize(all, func(r *repeat) *measured { return &r.Bare }),
		Cold:    summarize(all, func(r *repeat) *measured { return &r.Cold }),
		Warm:    summarize(all, func(r *repeat) *measured { return &r.Warm }),
		Ratio:   over(all, func(r *repeat) float64 { return r.Ratio }),
		ColdTo:  over(all, func(r *repeat) float64 { return r.ColdTo }),
		RSS:     over(all, func(r *repeat) float64 { return r.RSS }),
		Highest: over(all, func(r *repeat) float64 { return r.Highest }),
	}
}

// flush is how often the disk was flushed, counted in a pass of its own by somebody else than Writ.
type flush struct {
	Database    string             `json:"database"`
	Connections int                `json:"connections"`
	By          string             `json:"by"` // strace, or PostgreSQL's pg_stat_wal (with the pass over all identities before)
	Requests    int64              `json:"requests"`
	Calls       map[string]int     `json:"calls"` // fsync, fdatasync, wal_sync
	PerRequest  float64            `json:"per_request"`
	Rate        float64            `json:"rate"`    // while it was counted
	Metrics     map[string]float64 `json:"metrics"` // what the server itself counts of commits and flushes
}

// large compares a log of many entries with a small one.
type large struct {
	Database string        `json:"database"`
	Entries  int64         `json:"entries"`
	Prefill  float64       `json:"prefill_seconds"`
	SizeMiB  float64       `json:"size_mib"`
	Start    startTimes    `json:"start"`
	Cells    []largeCell   `json:"cells"`
	Verify   *verification `json:"verify"`
}

type startTimes struct {
	Small spread `json:"small_ms"`
	Large spread `json:"large_ms"`
}

type largeCell struct {
	Connections int    `json:"connections"`
	Small       spread `json:"small_rate"`
	Large       spread `json:"large_rate"`
	Times       spread `json:"times"` // time for a request on the large log to that on the small one
	SmallP99    spread `json:"small_p99_ms"`
	LargeP99    spread `json:"large_p99_ms"`
	SmallCPU    spread `json:"small_cpu_us"` // with PostgreSQL, its own too
	LargeCPU    spread `json:"large_cpu_us"`
}

type verification struct {
	By           string  `json:"by"`
	Entries      int64   `json:"entries"`
	Seconds      float64 `json:"seconds"` // of the whole database, with its state
	Rate         float64 `json:"rate"`
	VerifierRate float64 `json:"verifier_rate"` // of evidence.Verifier alone, which does not open values
}

// goal is what is aimed at. A goal that is missed does not fail a run.
type goal struct {
	What string  `json:"what"`
	Want string  `json:"want"`
	Got  float64 `json:"got"`
	Met  bool    `json:"met"`
}

const (
	barWidth = 30
	barFull  = 0.36 // the ratio of a full bar
	barGoal  = 0.15
	goalCell = 12 // of the bar: barGoal/barFull*barWidth, rounded down
)

// bar draws a ratio in eighths of a character; the mark is the goal.
func bar(ratio float64) string {
	eighths := []rune(" ▏▎▍▌▋▊▉█")
	filled := min(int(ratio/barFull*barWidth*8), barWidth*8)
	cells := make([]rune, barWidth)
	for i := range cells {
		cells[i] = eighths[min(max(filled-8*i, 0), 8)]
		if i == goalCell && cells[i] == ' ' {
			cells[i] = '┊'
		}
	}
	return string(cells)
}

func (r *report) print(w io.Writer) {
	m := &r.Machine
	fmt.Fprintf(w, "\nWrit %s (%s), %s, %d cores of %s, Linux %s", m.Writ, m.Commit, m.Go, m.Cores, m.CPU, m.Kernel)
	if m.Postgres != "" {
		fmt.Fprintf(w, ", %s", m.Postgres)
	}
	fmt.Fprintf(w, "\nThe load of the machine was %s before the run: what others do shows in every figure, least in ratios.", m.Load)
	fmt.Fprintf(w, "\n%d identities with a token and a task each; %d access, %d approval and %d risk policies; %d repeats of %s, medians. "+
		"Load and servers share the cores.\n", r.Settings.Identities, r.Policies.Access, r.Policies.Approval, r.Policies.Risk, r.Settings.Repeats, r.Settings.Duration)
	printCells(w, r.Cells)
	printCallers(w, r.Cells, r.Callers)
	printFlushes(w, r.Flushes)
	for i := range r.Large {
		r.Large[i].print(w)
	}
	fmt.Fprintln(w, "\nGoals")
	for _, g := range r.Goals {
		word := "met   "
		if !g.Met {
			word = "MISSED"
		}
		fmt.Fprintf(w, "  %s  %-58s %-14s got %.3g\n", word, g.What, g.Want, g.Got)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, "  "+note)
	}
}

func printCells(w io.Writer, cells []cell) {
	const head = "%-10s %-5s %4s %-5s %9s %8s %8s %8s %9s %9s   %s\n"
	const line = "%-10s %-5s %4d %-5s %9.0f %8.2f %8.2f %8.1f %9.0f %9s   %s\n"
	fmt.Fprintf(w, "\n"+head, "", "", "conn", "", "req/s", "p50 ms", "p99 ms", "max ms", "CPU µs", "pg CPU µs", "ratio to the bare handler (┊ the goal)")
	for i := range cells {
		c := &cells[i]
		row := func(kind string, s *summary, ratio string) {
			pg := ""
			if c.Database == postgres && kind != "bare" {
				pg = fmt.Sprintf("%.0f", s.Postgres.Median)
			}
			fmt.Fprintf(w, line, c.Database, c.Callers, c.Connections, kind, s.Rate.Median, s.P50.Median, s.P99.Median, s.Max.Median, s.CPU.Median, pg, ratio)
		}
		draw := func(s spread) string {
			return fmt.Sprintf("%s %.3f (%.3f–%.3f)", bar(s.Median), s.Median, s.Low, s.High)
		}
		row("bare", &c.Bare, "")
		row("cold", &c.Cold, draw(c.ColdTo))
		row("warm", &c.Warm, fmt.Sprintf("%s  %.0f MiB", draw(c.Ratio), c.Highest.Median))
	}
}

func printFlushes(w io.Writer, flushes []flush) {
	if len(flushes) == 0 {
		return
	}
	fmt.Fprintln(w, "\nFlushes, counted in passes of their own")
	for _, f := range flushes {
		fmt.Fprintf(w, "  %-10s %3d connections  %.3f a request (%v for %d requests, by %s)", f.Database, f.Connections, f.PerRequest, f.Calls, f.Requests, f.By)
		for name, value := range f.Metrics {
			fmt.Fprintf(w, "  %s %.3f", name, value/float64(f.Requests))
		}
		fmt.Fprintln(w)
	}
}

func (l *large) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s with %d entries (%.0f MiB, filled in %.0f s)\n", l.Database, l.Entries, l.SizeMiB, l.Prefill)
	for _, c := range l.Cells {
		fmt.Fprintf(w, "  %3d connections  small %6.0f/s p99 %.1f ms CPU %.0f µs   large %6.0f/s p99 %.1f ms CPU %.0f µs   %.2f times the time (%.2f–%.2f)\n",
			c.Connections, c.Small.Median, c.SmallP99.Median, c.SmallCPU.Median, c.Large.Median, c.LargeP99.Median, c.LargeCPU.Median, c.Times.Median, c.Times.Low, c.Times.High)
	}
	fmt.Fprintf(w, "  start until ready  small %.0f ms   large %.0f ms\n", l.Start.Small.Median, l.Start.Large.Median)
	if v := l.Verify; v != nil {
		fmt.Fprintf(w, "  %s  %.1f s, %.0f entries/s   evidence.Verifier alone %.0f entries/s\n", v.By, v.Seconds, v.Rate, v.VerifierRate)
	}
}

// judge compares with the goals of the design.
func (r *report) judge() {
	add := func(what, want string, got float64, met bool) { r.Goals = append(r.Goals, goal{what, want, got, met}) }
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.Callers != plain {
			continue // what is aimed at is said of these
		}
		at := fmt.Sprintf(", %s, %d connections", c.Database, c.Connections)
		switch c.Connections {
		case 1:
			add("p50 in ms, warm"+at, "< 1.0", c.Warm.P50.Median, c.Warm.P50.Median < 1)
		case 64:
			add("ratio to the bare handler, warm"+at, ">= 0.15", c.Ratio.Median, c.Ratio.Median >= barGoal)
			add("highest memory in MB"+at, "< 100", c.Highest.Median*1.048576, c.Highest.Median*1.048576 < 100)
		}
	}
	for i := range r.Flushes {
		f := &r.Flushes[i]
		at := fmt.Sprintf(", %s, %d connections", f.Database, f.Connections)
		switch f.Connections {
		case 1:
			add("flushes a request"+at, "<= 1.05", f.PerRequest, f.PerRequest <= 1.05)
		case 64:
			add("flushes a request"+at, "<= 0.05", f.PerRequest, f.PerRequest <= 0.05)
		}
	}
	for i := range r.Large {
		for _, c := range r.Large[i].Cells {
			add(fmt.Sprintf("time on %d entries to a small log, %s, %d connections", r.Large[i].Entries, r.Large[i].Database, c.Connections),
				"< 1.3", c.Times.Median, c.Times.Median < 1.3)
		}
	}
}
