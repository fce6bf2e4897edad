// Go's own checksum-database packages, note and tlog, on the log of a running demo.
//
//	go-check READY_FILE FOLDER_OF_EARLIER_CHECKPOINTS
//
// Proves, with the code by which every Go installation checks its modules: our checkpoint is a signed note, cosigned by
// 3 of 4 witnesses (cosignature/v1 is not in Go's packages: it is `cosigner` below); our tiles authenticate to its
// root, and so does every entry; records and earlier checkpoints are proved by it. And that each of these is refused
// when one byte is changed.
//
// Does not prove anything about what entries mean, nor that cosignatures are fresh.
//
// Prints one line a check: its name, and after a tab what was wrong.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const quorum = 3

type ready struct {
	LogURL    string `json:"log_url"`
	LogVkey   string `json:"log_vkey"`
	Origin    string `json:"origin"`
	Witnesses []struct {
		Vkey string `json:"vkey"`
	} `json:"witnesses"`
}

// cosigner verifies C2SP cosignature/v1 lines: key type 4, a big-endian time, then Ed25519 over a header and the text.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(vkey string) (note.Verifier, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	id, encoded, _ := strings.Cut(rest, "+")
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(data) != 33 || data[0] != 4 {
		return nil, fmt.Errorf("not a cosigner's key: %s", vkey)
	}
	sum := sha256.Sum256(slices.Concat([]byte(name+"\n"), data))
	c := &cosigner{name, binary.BigEndian.Uint32(sum[:4]), data[1:]}
	if fmt.Sprintf("%08x", c.hash) != id {
		return nil, fmt.Errorf("the ID is not the key's: %s", vkey)
	}
	return c, nil
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }
func (c *cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	header := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(sig))
	return ed25519.Verify(c.key, append([]byte(header), msg...), sig[8:])
}

// opened is what open found in a note that it accepts.
type opened struct {
	tree         tlog.Tree
	cosignatures int
}

// open requires the log's signature, a quorum, and no line of a known key that fails.
func open(raw []byte, origin string, log note.Verifier, witnesses []note.Verifier) (opened, error) {
	n, err := note.Open(raw, note.VerifierList(append(slices.Clone(witnesses), log)...))
	if err != nil {
		return opened{}, err
	}
	byLog := slices.ContainsFunc(n.Sigs, func(s note.Signature) bool {
		return s.Hash == log.KeyHash() && s.Name == log.Name()
	})
	if !byLog || len(n.Sigs) < 1+quorum {
		return opened{}, fmt.Errorf("%d known signatures, the log's among them: %t", len(n.Sigs), byLog)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != origin {
		return opened{}, errors.New("not this log's checkpoint")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return opened{}, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return opened{tlog.Tree{N: size, Hash: hash}, len(n.Sigs) - 1}, err
}

// tiles reads tiles by HTTP, once each. Those in changed are given out instead of the log's.
type tiles struct {
	url           string
	kept, changed map[string][]byte
}

var client = http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{Proxy: nil}}

func (t *tiles) get(path string) ([]byte, error) {
	if data, ok := t.changed[path]; ok {
		return data, nil
	}
	if data, ok := t.kept[path]; ok {
		return data, nil
	}
	answer, err := client.Get(t.url + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	data, err := io.ReadAll(answer.Body)
	if err == nil {
		t.kept[path] = data
	}
	return data, err
}

func (t *tiles) Height() int                     { return 8 }
func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		// C2SP tlog-tiles has Go's paths without the height, which is always 8.
		data, err := t.get(strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// entries reads all entries, from bundles of 256 with a big-endian length before each.
func (t *tiles) entries(size int64) ([][]byte, error) {
	var all [][]byte
	for n := int64(0); n*256 < size; n++ {
		tile := tlog.Tile{H: 8, L: -1, N: n, W: int(min(256, size-n*256))}
		data, err := t.get(strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1))
		if err != nil {
			return nil, err
		}
		for len(data) > 0 {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				return nil, fmt.Errorf("bundle %d is cut short", n)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			all, data = append(all, data[2:end]), data[end:]
		}
	}
	if int64(len(all)) != size {
		return nil, fmt.Errorf("%d entries in a log of %d", len(all), size)
	}
	return all, nil
}

// leaves are the leaf hashes that the tiles hold.
func leaves(tree tlog.Tree, t *tiles) ([]tlog.Hash, error) {
	var indexes []int64
	for i := range tree.N {
		indexes = append(indexes, tlog.StoredHashIndex(0, i))
	}
	return tlog.TileHashReader(tree, t).ReadHashes(indexes)
}

func flip(data []byte, at int) []byte {
	changed := bytes.Clone(data)
	changed[at] ^= 1
	return changed
}

func flipHash(h tlog.Hash, at int) tlog.Hash {
	h[at] ^= 1
	return h
}

// flipped gives the proof with one hash changed, for each of its hashes, and the proof without its last.
func flipped(proof []tlog.Hash) (all [][]tlog.Hash) {
	for i := range proof {
		changed := slices.Clone(proof)
		changed[i] = flipHash(changed[i], i)
		all = append(all, changed)
	}
	return append(all, proof[:len(proof)-1])
}

func check(name string, run func() error) {
	line := name
	if err := run(); err != nil {
		line += "\t" + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	fmt.Println(line)
}

// must ends the program: nothing can be checked.
func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, "go-check:", err)
		os.Exit(1)
	}
	return value
}

func main() {
	var demo ready
	if err := json.Unmarshal(must(os.ReadFile(os.Args[1])), &demo); err != nil {
		must(0, err)
	}
	log := must(note.NewVerifier(demo.LogVkey))
	var witnesses []note.Verifier
	for _, w := range demo.Witnesses {
		witnesses = append(witnesses, must(newCosigner(w.Vkey)))
	}
	t := &tiles{url: demo.LogURL, kept: map[string][]byte{}}
	raw := must(t.get("checkpoint"))
	delete(t.kept, "checkpoint")
	head, err := open(raw, demo.Origin, log, witnesses)
	check("checkpoint, signed and cosigned by 3 of 4 witnesses", func() error { return err })
	must(head, err)
	size, root := head.tree.N, head.tree.Hash
	reader := tlog.TileHashReader(head.tree, t)
	entries := must(t.entries(size))
	edges := []int64{0, 1, 2, 254, 255, 256, 257, size / 2, size - 2, size - 1}

	check("every tile and entry belongs to the root", func() error {
		if got, err := tlog.TreeHash(size, reader); err != nil || got != root {
			return fmt.Errorf("root %v, %v", got, err)
		}
		hashes, err := leaves(head.tree, t)
		for i := range hashes {
			if hashes[i] != tlog.RecordHash(entries[i]) {
				return fmt.Errorf("entry %d is not in its tile", i)
			}
		}
		return err
	})

	check("records are proved, and refused when changed", func() error {
		for _, i := range edges {
			proof, err := tlog.ProveRecord(size, i, reader)
			if err != nil {
				return err
			}
			hash := tlog.RecordHash(entries[i])
			if err := tlog.CheckRecord(proof, size, root, i, hash); err != nil {
				return fmt.Errorf("record %d: %w", i, err)
			}
			accepted := tlog.CheckRecord(proof, size, flipHash(root, 31), i, hash) == nil ||
				tlog.CheckRecord(proof, size, root, i^1, hash) == nil
			for at := range entries[i] {
				changed := tlog.RecordHash(flip(entries[i], at))
				accepted = accepted || tlog.CheckRecord(proof, size, root, i, changed) == nil
			}
			for _, changed := range flipped(proof) {
				accepted = accepted || tlog.CheckRecord(changed, size, root, i, hash) == nil
			}
			if accepted {
				return fmt.Errorf("record %d: accepted with something changed", i)
			}
		}
		return nil
	})

	check("every checkpoint seen while the log grew is proved, and refused when changed", func() error {
		paths, _ := filepath.Glob(filepath.Join(os.Args[2], "*"))
		if len(paths) < 3 {
			return fmt.Errorf("only %d were seen", len(paths))
		}
		for _, path := range paths {
			old, err := open(must(os.ReadFile(path)), demo.Origin, log, witnesses)
			if err != nil {
				return err
			}
			n, hash := old.tree.N, old.tree.Hash
			proof, err := tlog.ProveTree(size, n, reader)
			if err != nil {
				return fmt.Errorf("from size %d: %w", n, err)
			}
			if err := tlog.CheckTree(proof, size, root, n, hash); err != nil {
				return fmt.Errorf("from size %d: %w", n, err)
			}
			accepted := tlog.CheckTree(proof, size, root, n, flipHash(hash, 0)) == nil ||
				tlog.CheckTree(proof, size, flipHash(root, 31), n, hash) == nil
			if len(proof) > 0 { // It is empty from the size to itself.
				for _, changed := range flipped(proof) {
					accepted = accepted || tlog.CheckTree(changed, size, root, n, hash) == nil
				}
			}
			if accepted {
				return fmt.Errorf("from size %d: accepted with something changed", n)
			}
		}
		return nil
	})

	check("a note with any one byte changed is refused, or has one cosignature less", func() error {
		for at := range raw {
			// Go's base64 ignores the bits that are left over before padding; aics-tlog's does not.
			if at+1 < len(raw) && raw[at+1] == '=' {
				continue
			}
			got, err := open(flip(raw, at), demo.Origin, log, witnesses)
			if err == nil && (got.tree != head.tree || got.cosignatures >= head.cosignatures) {
				return fmt.Errorf("accepted with byte %d changed", at)
			}
		}
		return nil
	})

	check("each tile with one byte changed is refused", func() error {
		for path, data := range t.kept {
			if strings.HasPrefix(path, "tile/entries/") {
				continue
			}
			for _, at := range []int{0, len(data) / 2, len(data) - 1} {
				forged := &tiles{t.url, t.kept, map[string][]byte{path: flip(data, at)}}
				if _, err := leaves(head.tree, forged); err == nil {
					return fmt.Errorf("%s accepted with byte %d changed", path, at)
				}
			}
		}
		return nil
	})
}
