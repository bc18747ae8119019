package store

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/writ-project/writ/evidence"
	"github.com/writ-project/writ/internal/access/event"
)

// span is a run of entries: the first and the last index, as in event.LogPruned.
type span = [2]int64

// contains reports whether an index lies in one of the spans, which are ascending.
func contains(spans []span, index int64) bool {
	_, found := slices.BinarySearchFunc(spans, index, func(s span, index int64) int {
		if index < s[0] {
			return 1
		}
		return cmp.Compare(min(index, s[1]), index)
	})
	return found
}

// without is what of the spans a lies in none of b; both are ascending.
func without(a, b []span) []span {
	var out []span
	for _, s := range a {
		for len(b) > 0 && b[0][1] < s[0] {
			b = b[1:]
		}
		for _, cut := range b {
			if cut[0] > s[1] || s[0] > s[1] {
				break
			}
			if cut[0] > s[0] {
				out = append(out, span{s[0], cut[0] - 1})
			}
			s[0] = cut[1] + 1
		}
		if s[0] <= s[1] {
			out = append(out, s)
		}
	}
	return out
}

// extend adds an index, which comes after all that are there.
func extend(spans []span, index int64) []span {
	if n := len(spans); n > 0 && spans[n-1][1] == index-1 {
		spans[n-1][1] = index
		return spans
	}
	return append(spans, span{index, index})
}

func count(spans []span) (n int64) {
	for _, s := range spans {
		n += s[1] - s[0] + 1
	}
	return n
}

// gaps are the entries that a verification has not found in the database.
type gaps struct {
	missing []span
	pruned  []span // as entries say
	unread  bool   // some were not read from an archive either
	lost    bool   // a hash is missing, too: from there on the places in the log are not known
	tile    int64  // the tile of level 0 at hand; -1 is none
	hashes  []byte
}

// explain notes what an entry says was pruned.
func (g *gaps) explain(index int64, e *event.LogPruned) {
	for _, s := range e.Entries {
		if s[0] >= 0 && s[0] <= s[1] && s[1] < index { // nothing can be said of what comes later
			g.pruned = append(g.pruned, s)
		}
	}
}

// bridge gets over entries that are not in the database: what an archive holds of them is read like the others, and for the rest
// their hashes in the tiles stand, which the root shows to be the right ones.
func (v *verification) bridge(log *evidence.Verifier, from, to int64) error {
	if v.gaps.lost {
		v.find("entries", fmt.Sprint(from), "deleted", "the entries from %d to %d are missing", from, to-1)
		return nil
	}
	for index := from; index < to; index++ {
		leaf, found, err := v.leafInTile(index)
		if err != nil {
			return err
		}
		if !found {
			v.gaps.lost = true
			v.find("entries", fmt.Sprint(index), "deleted", "the entries from %d to %d are missing, and their hashes", index, to-1)
			return nil
		}
		v.gaps.missing = extend(v.gaps.missing, index)
		if body := v.archived(index, leaf); body != nil {
			if err := v.add(log, index, body); err != nil {
				return err
			}
			continue
		}
		v.gaps.unread = true
		log.AddHash(leaf)
		if err := v.checkTiles(leaf); err != nil {
			return err
		}
	}
	return nil
}

// leafInTile is the hash of an entry in the tile that holds it, if that is full and stored.
func (v *verification) leafInTile(index int64) (leaf evidence.Hash, found bool, err error) {
	const size = int64(len(leaf))
	if tile := index / evidence.TileWidth; tile != v.gaps.tile {
		v.gaps.tile, v.gaps.hashes = tile, nil
		err = v.stored.row(v.ctx, `SELECT data FROM tiles WHERE level = 0 AND n = $1`, []any{tile}, &v.gaps.hashes)
		if errors.Is(err, sql.ErrNoRows) {
			return leaf, false, nil
		}
	}
	at := index % evidence.TileWidth * size
	if err != nil || int64(len(v.gaps.hashes)) < at+size {
		return leaf, false, err
	}
	return evidence.Hash(v.gaps.hashes[at : at+size]), true, nil
}

// inArchive names the archive where a finding names a table.
const inArchive = "archive"

// archived reads an entry from the archive; nil if that does not hold it.
func (v *verification) archived(index int64, leaf evidence.Hash) []byte {
	if v.options.Archive == nil {
		return nil
	}
	body, err := v.options.Archive.Entry(index)
	switch {
	case err != nil:
		v.find(inArchive, fmt.Sprint(index), "deleted", "%v", err)
		return nil
	case evidence.LeafHash(body) != leaf:
		v.find(inArchive, fmt.Sprint(index), "changed", "it is not the entry whose hash is in the tree")
		return nil
	}
	return body
}

// explainGaps compares what is missing with what the log says was pruned.
func (v *verification) explainGaps() {
	slices.SortFunc(v.gaps.pruned, func(a, b span) int { return cmp.Compare(a[0], b[0]) })
	unexplained := without(v.gaps.missing, v.gaps.pruned)
	for _, s := range unexplained {
		v.find("entries", fmt.Sprint(s[0]), "deleted", "the entries from %d to %d are missing, and no entry says that they were pruned", s[0], s[1])
	}
	if !v.gaps.lost {
		for _, s := range without(v.gaps.pruned, v.gaps.missing) {
			v.find("entries", fmt.Sprint(s[0]), "inserted", "the entries from %d to %d are there, though the log says that they were pruned", s[0], s[1])
		}
	}
	v.out.Pruned = count(v.gaps.missing) - count(unexplained)
}
