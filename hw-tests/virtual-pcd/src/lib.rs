//! virtual-pcd
