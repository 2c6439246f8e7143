# Tables, with and without Tables.jl.

const TABLES = Base.PkgId(Base.UUID("bd369af6-aec1-5ad0-b16a-f7cc5008161c"), "Tables")

"""
The columns of a table as a named tuple of vectors: of one, of a vector of named tuples, of what Tables.jl calls a table where
a package has loaded it, and else of an object whose properties are vectors.
"""
function table_columns(table)
    tables = get(Base.loaded_modules, TABLES, nothing)
    if tables !== nothing && Base.invokelatest(tables.istable, table)
        columns = Base.invokelatest(tables.columns, table)
        names = Base.invokelatest(tables.columnnames, columns)
        return equally_long((; (name => Base.invokelatest(tables.getcolumn, columns, name) for name in names)...))
    end
    return equally_long((; (name => getproperty(table, name) for name in propertynames(table))...))
end
table_columns(rows::AbstractVector{<:NamedTuple{names}}) where {names} =
    NamedTuple{names}(Tuple([row[name] for row in rows] for name in names))
table_columns(array::AbstractArray) = throw(ArgumentError("an array of real numbers is needed, not of $(eltype(array))"))

function equally_long(columns::NamedTuple)
    all(column -> column isa AbstractVector, columns) && !isempty(columns) ||
        throw(ArgumentError("a table is needed: a named tuple of vectors, a vector of named tuples, or what Tables.jl knows"))
    for (name, column) in pairs(columns)
        length(column) == length(columns[1]) || throw(ArgumentError(
            "the column '$name' has $(length(column)) rows, '$(keys(columns)[1])' has $(length(columns[1]))"))
    end
    return columns
end

"Names of columns as a list: of one name, a list of them, or `nothing`."
listed(::Nothing) = Symbol[]
listed(name::Union{Symbol,AbstractString}) = [Symbol(name)]
listed(names) = Symbol[Symbol(name) for name in names]

column_of(columns, name) = haskey(columns, name) ? columns[name] :
    throw(ArgumentError("there is no column '$name', but $(join(keys(columns), ", "))"))

"The columns `names` as a matrix, `NaN` where a value is missing; one column stays a matrix of one column."
function numbers(columns, names)
    values = Matrix{Float64}(undef, length(columns[1]), length(names))
    for (place, name) in enumerate(names)
        column = column_of(columns, name)
        eltype(column) <: Union{Real,Missing} ||
            throw(ArgumentError("the column '$name' has values of type $(eltype(column)), must be numbers"))
        values[:, place] .= with_nan(column)
    end
    return values
end
