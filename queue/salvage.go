package queue

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// salvage makes the files and the metadata of every queue that nsqd has on disk agree, as a clean stop leaves them. nsqd writes
// metadata every two seconds, so kill -9 leaves files that it knows nothing of. The next life would write over them from their
// beginning without cutting them, while its reader has the old bytes in its buffer already: it takes what follows for damaged and
// drops it, and with it messages that this life has taken. Nobody else may use the directory meanwhile.
//
// Whatever the bytes are, they can be mended. An error is the disk's or the system's, and says nothing about them: nothing is lost
// by it as long as nsqd does not start, and the next salvage goes on.
func salvage(dir string, log *slog.Logger) error { return salvageOn(osDisk{}, dir, log) }

func salvageOn(d disk, dir string, log *slog.Logger) error {
	if err := tidy(d, dir, log); err != nil {
		return fmt.Errorf("make room between the queues on disk: %w", err)
	}
	queues, err := diskQueues(d, dir)
	if err != nil {
		return fmt.Errorf("list the queues on disk: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(queues)) {
		found, err := queues[name].salvage(log)
		if err != nil {
			return fmt.Errorf("queue %s on disk can't be mended now, and keeps what it has: %w", name, err)
		}
		if found.mended {
			log.Warn("nsqd was not stopped: a queue on disk is mended", "queue", name, "messages", found.messages, "cut_bytes", found.cut)
		}
	}
	return syncDir(d, dir) // even where nothing is mended: one that failed may have come this far
}

// diskQueue is one queue of nsqd on disk: of a topic, or of TOPIC:CHANNEL. Its messages lie in numbered files.
type diskQueue struct {
	disk      disk
	dir, name string
	files     []int64  // numbers, ascending
	strange   []string // folders and the like that have the name of one of its files
}

// diskMeta is a queue's metadata: how many messages there are from where they are read to where they are written.
type diskMeta struct {
	depth               int64
	readFile, readPos   int64
	writeFile, writePos int64
}

const diskMetaFormat = "%d\n%d,%d\n%d,%d\n"

var diskFile = regexp.MustCompile(`^(.+)\.diskqueue\.(meta|[0-9]{6,18})\.dat$`)

// diskQueues finds the queues of a directory. Metadata alone is one, too: its files may have gone in a salvage that was cut off.
func diskQueues(d disk, dir string) (map[string]*diskQueue, error) {
	entries, err := d.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	queues := map[string]*diskQueue{}
	for _, entry := range entries {
		match := diskFile.FindStringSubmatch(entry.Name())
		if match == nil {
			continue
		}
		q := queues[match[1]]
		if q == nil {
			q = &diskQueue{disk: d, dir: dir, name: match[1]}
		}
		if q.take(entry, match[2]) {
			queues[q.name] = q
		}
	}
	for _, q := range queues {
		slices.Sort(q.files)
	}
	return queues, nil
}

// take answers false for what is not the queue's.
func (q *diskQueue) take(entry fs.DirEntry, number string) bool {
	n, err := strconv.ParseInt(number, 10, 64)
	numbered := err == nil
	if numbered && filepath.Base(q.file(n)) != entry.Name() {
		return false // nsqd would write that number otherwise
	}
	if entry.Type()&^fs.ModeSymlink != 0 {
		q.strange = append(q.strange, filepath.Join(q.dir, entry.Name()))
	} else if numbered {
		q.files = append(q.files, n)
	}
	return true
}

func (q *diskQueue) file(number int64) string {
	return filepath.Join(q.dir, fmt.Sprintf("%s.diskqueue.%06d.dat", q.name, number))
}

func (q *diskQueue) metaFile() string { return filepath.Join(q.dir, q.name+".diskqueue.meta.dat") }

// salvaged is what was found of one queue.
type salvaged struct {
	messages int64 // still to be read
	cut      int64 // bytes that are no whole message
	mended   bool
}

// salvage looks at the whole queue before it changes anything.
func (q *diskQueue) salvage(log *slog.Logger) (salvaged, error) {
	was, known, err := q.readMeta()
	if err != nil {
		return salvaged{}, err
	}
	first, _ := slices.BinarySearch(q.files, was.readFile)
	p, err := q.plan(q.files[first:], was)
	if err != nil {
		return salvaged{}, err
	}
	p.read, p.newMeta = q.files[:first], p.now != was || !known
	mended := p.changes() || len(q.strange) > 0
	return salvaged{p.now.depth, p.cut, mended}, q.mend(p, log)
}

// plan is what makes a queue's files and metadata agree.
type plan struct {
	now     diskMeta // what is true afterwards
	newMeta bool
	read    []int64 // lie before what is to be read
	damaged []int64 // have nothing to read, but more than a message that was being written
	empty   []int64 // have nothing to read
	kept    []keptFile
	cut     int64
}

// keptFile is one that has messages, or the last one. It gets the number that it shall have.
type keptFile struct {
	part
	number, to int64
}

func (p *plan) changes() bool {
	renumbered := slices.ContainsFunc(p.kept, func(k keptFile) bool { return k.to != k.number })
	return p.newMeta || renumbered || p.cut > 0 || len(p.read)+len(p.damaged)+len(p.empty) > 0
}

func (q *diskQueue) plan(files []int64, was diskMeta) (p plan, err error) {
	var whole []keptFile
	for _, number := range files {
		found, err := q.part(number, was)
		if err != nil {
			return p, err
		}
		p.cut += found.size - found.end
		if found.messages == 0 && found.damaged() {
			p.damaged = append(p.damaged, number)
		} else {
			whole = append(whole, keptFile{part: found, number: number})
		}
	}
	p.now.readFile, p.now.writeFile = was.readFile, was.readFile // where there are no files
	p.number(whole)
	return p, nil
}

// number counts files up without gaps, as nsqd does. nsqd takes one that has nothing for damaged: so only the last one may have
// nothing left to read.
func (p *plan) number(files []keptFile) {
	for i, k := range files {
		if k.messages == 0 && i < len(files)-1 {
			p.empty = append(p.empty, k.number)
			continue
		}
		k.to = p.now.writeFile + 1
		if len(p.kept) == 0 {
			p.now.readFile, p.now.readPos, k.to = k.number, k.from, k.number
		}
		p.kept = append(p.kept, k)
		p.now.depth, p.now.writeFile, p.now.writePos = p.now.depth+k.messages, k.to, k.end
	}
}

// mend does what is planned. Where it is cut off, by an error or by kill -9, what is left makes the next plan end the same:
//
//  1. What metadata calls read is removed: it calls it so still. That may be the room which the next steps need.
//  2. What can't be read is kept beside. A file without a message is as good as a missing one; of others a copy is made.
//  3. Metadata becomes what will be true. Each file is then read from where it would have been, whatever is torn, empty or
//     missing among them as before: how far it is to be read is in the files themselves.
//  4. Tails are cut, empty files removed, numbers changed from the lowest on, so that none is given before it is free.
//
// What is written lies on disk under another name before it takes its own.
func (q *diskQueue) mend(p plan, log *slog.Logger) error {
	if err := q.remove(p.read); err != nil {
		return err
	}
	if err := q.keepDamage(p, log); err != nil {
		return err
	}
	if p.newMeta {
		if err := q.writeMeta(p.now); err != nil {
			return err
		}
	}
	for _, k := range p.kept {
		if k.end < k.size {
			if err := truncate(q.disk, q.file(k.number), k.end); err != nil {
				return err
			}
		}
	}
	if err := q.remove(p.empty); err != nil {
		return err
	}
	for _, k := range p.kept {
		if k.to != k.number {
			if err := q.disk.Rename(q.file(k.number), q.file(k.to)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (q *diskQueue) remove(numbers []int64) error {
	for _, number := range numbers {
		if err := q.disk.Remove(q.file(number)); err != nil {
			return err
		}
	}
	return nil
}

// keepDamage names what it keeps by where it lay: damage that is found again after an error is not kept twice.
func (q *diskQueue) keepDamage(p plan, log *slog.Logger) error {
	for _, name := range q.strange {
		if err := q.aside(name, name+bad, log); err != nil {
			return err
		}
	}
	for _, number := range p.damaged {
		if err := q.aside(q.file(number), q.badFile(number, 0), log); err != nil {
			return err
		}
	}
	for _, k := range p.kept {
		if k.damaged() {
			if err := copyTail(q.disk, q.file(k.number), k.end, q.badFile(k.number, k.end)); err != nil {
				return err
			}
			tellDamage(log, q.name, q.badFile(k.number, k.end))
		}
	}
	return nil
}

func (q *diskQueue) aside(name, to string, log *slog.Logger) error {
	if err := q.disk.Rename(name, to); err != nil {
		return err
	}
	tellDamage(log, q.name, to)
	return nil
}

// tellDamage says what an operator does with it.
func tellDamage(log *slog.Logger, queue, file string) {
	log.Error("a queue on disk was damaged: what can't be read is kept beside; look for messages in it, then move it away or remove it",
		"queue", queue, "file", file, "kept_bytes_at_most", badBytes)
}

// part is what there is to read of one file.
type part struct {
	from, end int64 // of whole messages
	messages  int64
	size      int64 // of the file
}

// damaged reports whether there is more than one message that was being written behind the whole ones.
func (p part) damaged() bool { return p.size-p.end > diskLength+diskLongest }

// part believes the metadata's position where a message begins, and where nothing was left to read; otherwise it begins anew,
// for what comes twice does no harm.
func (q *diskQueue) part(number int64, was diskMeta) (p part, err error) {
	f, err := q.disk.OpenFile(q.file(number), os.O_RDONLY, 0)
	if err != nil {
		return p, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return p, err
	}
	p.size = info.Size()
	if number == was.readFile && was.readPos > 0 && was.readPos <= p.size {
		p.from = was.readPos
		p.messages, p.end, err = walk(f, p.from, p.size)
		drained := p.from == p.size || (number == was.writeFile && p.from == was.writePos)
		if err != nil || p.messages > 0 || drained {
			return p, err
		}
	}
	p.from = 0
	p.messages, p.end, err = walk(f, 0, p.size)
	return p, err
}

// walk counts the whole messages that follow each other from an offset on, and answers where they end.
func walk(f io.ReaderAt, from, size int64) (messages, end int64, err error) {
	in := bufio.NewReaderSize(io.NewSectionReader(f, from, size-from), 64<<10)
	for end = from; ; messages++ {
		n, err := skipMessage(in)
		if err != nil || n == 0 {
			return messages, end, err
		}
		end += n
	}
}

// A message on disk is its length, and then what is counted by it: time, number of attempts, id, body.
const (
	diskLength  = 4
	diskIDStart = 8 + 2
	diskHead    = diskIDStart + 16 // the shortest message
	diskLongest = diskHead + MaxMessageBytes
)

// skipMessage answers how long the next message is; 0: there is none, or what there is can't be one. Its id tells a message
// from bytes whose length is right by chance: nsqd makes ids of hexadecimal digits only.
func skipMessage(in *bufio.Reader) (int64, error) {
	var head [diskLength + diskHead]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, unlessEnded(err)
	}
	length := int64(binary.BigEndian.Uint32(head[:]))
	if length < diskHead || length > diskLongest || !hexadecimal(head[diskLength+diskIDStart:]) {
		return 0, nil
	}
	if _, err := in.Discard(int(length - diskHead)); err != nil {
		return 0, unlessEnded(err)
	}
	return diskLength + length, nil
}

// unlessEnded is nil where a file ends, though in the middle of a message.
func unlessEnded(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func hexadecimal(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// readMeta answers zeros, as of a new queue, where there is no metadata or what there is makes no sense.
func (q *diskQueue) readMeta() (m diskMeta, known bool, err error) {
	if slices.Contains(q.strange, q.metaFile()) {
		return m, false, nil
	}
	f, err := q.disk.OpenFile(q.metaFile(), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	defer f.Close()                                          //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, diskMetaMost)) // first, because a scan doesn't tell a disk that fails from nonsense
	if err != nil {
		return m, false, err
	}
	_, err = fmt.Sscanf(string(text), diskMetaFormat, &m.depth, &m.readFile, &m.readPos, &m.writeFile, &m.writePos)
	if err != nil || min(m.readFile, m.readPos, m.writeFile, m.writePos) < 0 {
		return diskMeta{}, false, nil //nolint:nilerr // damaged metadata is none
	}
	return m, true, nil
}

const diskMetaMost = 1 << 10 // bytes; five numbers take less

// writeMeta replaces the metadata as a whole.
func (q *diskQueue) writeMeta(m diskMeta) error {
	return replace(q.disk, q.metaFile(), func(w io.Writer) error {
		_, err := fmt.Fprintf(w, diskMetaFormat, m.depth, m.readFile, m.readPos, m.writeFile, m.writePos)
		return err
	})
}
