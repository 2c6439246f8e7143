using BIV, Test

const RESULTS = @testset "BIV" begin
    include("tests.jl")
end

passed(set) = set.n_passed + reduce(+, (passed(inner) for inner in set.results if inner isa Test.DefaultTestSet); init=0)
println("julia $VERSION: $(passed(RESULTS)) tests")
