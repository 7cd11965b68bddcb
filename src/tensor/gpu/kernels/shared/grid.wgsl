// The number of a workgroup in a grid that was folded over y and z to stay within 65535 a dimension. The last row of
// a folded grid may be longer than the work, so kernels compare what they compute from this with their counts.
fn workgroup_number(id: vec3<u32>, grid: vec3<u32>) -> u32 {
    return id.x + grid.x * (id.y + grid.y * id.z);
}
