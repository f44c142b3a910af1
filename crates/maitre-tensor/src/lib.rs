//! Devices, buffers, packed weights and transformer operators on ragged paged batches.
