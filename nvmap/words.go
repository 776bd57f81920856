package nvmap

// Page state words, one for each page of the address space reserved. They live
// in memory that is committed when touched and are never reset while the map is
// open: a version that started again would validate by accident.
//
//	bit 0      changing: the page is being changed in place
//	bit 1      frame: the newest bytes are in the DRAM mirror, else on the device
//	bits 2-5   dirty: the device does not have this quarter of the frame yet
//	bit 6      verified: somebody saw the page's checksum good since the map was opened
//	bit 7      touched: read since the policy last asked
//	bit 8      leaving: readers were sent to the device, the frame is still whole
//	bit 9      busy: one goroutine fills the frame, or gives its memory back
//	bit 10     counted: the frame is part of what the bound bounds
//	bits 12..  version: grows with every change, so that a reader can tell
const (
	stateChanging = 1 << 0
	stateFrame    = 1 << 1
	stateDirty    = 15 << dirtyShift
	stateVerified = 1 << 6
	stateTouched  = 1 << 7
	stateLeaving  = 1 << 8
	stateBusy     = 1 << 9
	stateCounted  = 1 << 10
	stateVersion  = 1 << 12

	dirtyShift = 2
	partBytes  = PageBytes / 4

	// What a reader that saw version v must find again. Where the bytes are may
	// change under it: moving between device and frame changes no byte.
	stateSeen = stateChanging | ^uint64(stateVersion-1)
)

// partsOf returns the dirty bits of bytes [from, to) of a page.
func partsOf(from, to int) uint64 {
	return (1<<(uint(to+partBytes-1)/partBytes) - 1<<(uint(from)/partBytes)) << dirtyShift
}

// Version is what a page looked like when a reader began. Versions are only
// good for ReadValid.
type Version uint64

// Place says where the newest bytes of a page are.
type Place uint8

// The places of a page.
const (
	OnDevice   Place = iota // no frame; read through the device's mapping
	FrameClean              // in a frame, and on the device
	FrameDirty              // in a frame only
)

func (p Place) String() string {
	switch p {
	case OnDevice:
		return "device"
	case FrameClean:
		return "clean frame"
	case FrameDirty:
		return "dirty frame"
	}
	return "unknown"
}
