package nvmap

// Page state words, one for each page of the address space reserved. They live
// in memory that is committed when touched and are never reset while the map is
// open: a version that started again would validate by accident.
//
//	bit 0     changing: the page is being changed in place
//	bit 1     frame: the newest bytes are in the DRAM mirror, else on the device
//	bit 2     dirty: the device does not have them yet
//	bit 3     verified: somebody saw the page's checksum good since the map was opened
//	bit 4     dropping: the frame's memory is being given back (nobody waits but Frame)
//	bits 8..  version: grows with every change, so that a reader can tell
const (
	stateChanging = 1 << 0
	stateFrame    = 1 << 1
	stateDirty    = 1 << 2
	stateVerified = 1 << 3
	stateDropping = 1 << 4
	stateVersion  = 1 << 8

	// What a reader that saw version v must find again. Where the bytes are may
	// change under it: moving between device and frame changes no byte.
	stateSeen = stateChanging | ^uint64(stateVersion-1)
)

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
